// The linear map: for every row the product of bases^exponents, rows sharing the bases.
//
// Exponents are shifted to be unsigned, which one shared factor makes good. The bases are taken in groups of t; all 2^t
// subset products of a group are tabulated, and every (row, bit plane) is multiplied by the entry that its bits of the
// group select. Horner joins the planes of a row at the end. Group by group over all accumulators, so that few tables
// are in use at a time. Which entries are read depends on the exponents: this is not constant-time, and need not be
// where the exponents are the caller's own.
#include <algorithm>
#include <stdexcept>

#include "split.h"

namespace sonar {
namespace {

constexpr int kMinGroup = 3;  // eight entries fill a vector
constexpr int kMaxGroup = 14;
constexpr size_t kTableBytes = size_t{4} << 20;         // of one group
constexpr size_t kTablesBytes = size_t{8} << 20;        // of all groups at a time, or one for each worker if that is more
constexpr size_t kAccumulatorBytes = size_t{64} << 20;  // rows are taken in slices beyond

constexpr size_t kChunkBytes = size_t{64} << 10;        // of accumulators that one task takes

// Units of a table's entry, of a look-up, and of joining a plane to its row.
constexpr double kEntryCost = 6;
constexpr double kLookupCost = 4.1;
constexpr double kJoinCost = 8.5;

void prefetch(const Lanes* from, size_t vectors) {
    for (size_t i = 0; i < vectors; ++i) _mm_prefetch(reinterpret_cast<const char*>(from + i), _MM_HINT_T0);
}

// Words of a table's row: limbs, filled up to whole vectors.
size_t row_words(int limbs) { return (static_cast<size_t>(limbs) + kLanes - 1) / kLanes * kLanes; }

struct Plan {
    size_t groups;
    int largest;  // group
    size_t table_bytes;
    size_t at_a_time;
};

Plan plan_groups(size_t count, size_t lookups, int limbs, int workers) {
    Plan best{};
    double best_cost = 0;
    for (int t = kMinGroup; t <= kMaxGroup; ++t) {
        const size_t bytes = (size_t{1} << t) * 2 * row_words(limbs) * sizeof(uint64_t);
        if (t > kMinGroup && bytes > kTableBytes) break;
        const size_t groups = (count + t - 1) / t;
        const double entries = static_cast<double>(size_t{1} << t);
        // The first group's look-ups are not multiplied.
        const double cost = static_cast<double>(groups) * kEntryCost * entries +
                            static_cast<double>(groups - 1) * kLookupCost * static_cast<double>(lookups);
        if (best.groups == 0 || cost < best_cost) {
            const int largest = static_cast<int>((count + groups - 1) / groups);
            best = {groups, largest, bytes, 0};
            best_cost = cost;
        }
    }
    best.at_a_time = std::min(best.groups, std::max<size_t>(workers, kTablesBytes / best.table_bytes));
    return best;
}

// The unsigned exponents of a slice of rows, by base. After its rows come the first ones again, so that eight
// neighbours can be read from any row.
class Exponents {
  public:
    Exponents(const int64_t* exponents, size_t rows, size_t count, int shift)
        : rows_(rows), stride_(rows + kLanes), words_(stride_ * count) {
        const uint64_t offset = uint64_t{1} << shift;
        for (size_t row = 0; row < stride_; ++row) {
            const int64_t* from = exponents + row % rows * count;
            for (size_t k = 0; k < count; ++k) {
                words_[k * stride_ + row] = static_cast<uint64_t>(from[k]) + offset;
            }
        }
    }
    const uint64_t* of(size_t base, size_t row) const { return words_.data() + base * stride_ + row; }
    size_t rows() const { return rows_; }

  private:
    size_t rows_;
    size_t stride_;
    std::vector<uint64_t> words_;
};

// What the groups' tables are multiplied into: element (plane rows + row) is lane `index % 8` of vector `index / 8`.
// Planes count from the top. Lifts are kept by element in rows of words, and only added up; what leaves their limbs goes
// to a word beside them, so that there can be as many bases as memory holds.
class Accumulators {
  public:
    Accumulators(const Ring& ring, const Exponents& exponents, int planes)
        : limbs_(ring.limbs()),
          words_(row_words(ring.limbs())),
          planes_(planes),
          exponents_(exponents),
          vectors_((exponents.rows() * planes + kLanes - 1) / kLanes),
          elements_((vectors_ + 1) * 2 * ring.limbs()),
          lifts_((vectors_ + 1) * words_),
          over_(vectors_ + 1) {}

    size_t vectors() const { return vectors_; }
    // Of one vector.
    size_t bytes() const { return (2 * limbs_ + words_ + 1) * sizeof(Lanes); }

    // Multiplies vectors [begin, end) by the entries of the table, for `group` bases from `first` on.
    void take(
        Arithmetic& arithmetic, size_t begin, size_t end, const Lanes* table, size_t first, size_t group, bool fresh) {
        const size_t row = words_ / kLanes;
        alignas(64) uint64_t index[kLanes];
        Lanes residues[kMaxLimbs];
        select(index, begin, first, group);
        for (size_t v = begin; v < end; ++v) {
            for (int lane = 0; lane < kLanes; ++lane) {
                const Lanes* entry_lift = table + index[lane] * 2 * row + row;
                Lanes* lift = lifts_.data() + (v * kLanes + lane) * row;
                for (size_t i = 0; i < row; ++i) lift[i] = _mm512_add_epi64(lift[i], entry_lift[i]);
            }
            for (size_t i = 0; i < row; ++i) {
                Lanes block[kLanes];
                for (int lane = 0; lane < kLanes; ++lane) block[lane] = table[index[lane] * 2 * row + i];
                transpose(block);
                for (int j = 0; j < kLanes; ++j) residues[i * kLanes + j] = block[j];
            }
            if (v + 1 < end) {
                // The next vector's entries arrive while this one is multiplied.
                select(index, v + 1, first, group);
                for (int lane = 0; lane < kLanes; ++lane) prefetch(table + index[lane] * 2 * row, 2 * row);
            }
            Lanes* element = elements_.data() + v * 2 * limbs_;
            if (fresh) {
                std::memcpy(static_cast<void*>(element), residues, limbs_ * sizeof(Lanes));
            } else {
                arithmetic.multiply_by_residue(element, element, residues);
            }
        }
    }

    // Carries in all lifts of vector v: needed before 2^11 additions.
    void carry(size_t v) {
        auto* words = reinterpret_cast<uint64_t*>(lifts_.data() + v * words_);
        auto* overs = reinterpret_cast<uint64_t*>(&over_[v]);
        for (int lane = 0; lane < kLanes; ++lane, words += words_) {
            uint64_t over = 0;
            for (int i = 0; i < limbs_; ++i) {
                words[i] += over;
                over = words[i] >> kLimbBits;
                words[i] &= kLimbMask;
            }
            overs[lane] += over;
        }
    }

    // Joins the planes of eight rows, from `row` on: an element, and columns [0, L + 2) of its lift.
    void join(Arithmetic& arithmetic, Element element, Lanes* lift, size_t row) const {
        const size_t l = limbs_;
        Vectors next(2 * l);
        std::memset(static_cast<void*>(lift), 0, (l + 2) * sizeof(Lanes));
        for (int plane = 0; plane < planes_; ++plane) {
            const size_t start = plane * exponents_.rows() + row;
            read(plane == 0 ? element : next.data(), start);
            if (plane > 0) {
                arithmetic.square(element, element);
                arithmetic.multiply(element, element, next.data());
            }
            read_lift(next.data(), start);
            next[l + 1] = _mm512_setzero_si512();
            for (size_t i = 0; i < l + 2; ++i) {
                lift[i] = _mm512_add_epi64(_mm512_add_epi64(lift[i], lift[i]), next[i]);
            }
            normalise(lift, lift, static_cast<int>(l) + 2);
        }
    }

  private:
    // The table's entry for every lane of vector v: bit k is the lane's bit of base first + k.
    void select(uint64_t* index, size_t v, size_t first, size_t group) const {
        const size_t rows = exponents_.rows();
        const size_t start = v * kLanes;
        const size_t row = start % rows;
        alignas(64) uint64_t shifts[kLanes];
        for (size_t lane = 0; lane < kLanes; ++lane) {
            // Lanes after the last plane get zeros.
            const size_t plane = start / rows + (row + lane) / rows;
            shifts[lane] = plane < static_cast<size_t>(planes_) ? planes_ - 1 - plane : 64;
        }
        const Lanes shift = _mm512_load_si512(shifts);
        Lanes sum = _mm512_setzero_si512();
        for (size_t k = 0; k < group; ++k) {
            const Lanes bits = _mm512_srlv_epi64(_mm512_loadu_si512(exponents_.of(first + k, row)), shift);
            sum = _mm512_or_si512(
                sum, _mm512_sllv_epi64(_mm512_and_si512(bits, broadcast(1)), broadcast(k)));
        }
        _mm512_store_si512(index, sum);
    }

    // Eight elements from `start` on, which may begin in one vector and end in the next.
    void read(Element out, size_t start) const {
        const Lanes index = _mm512_add_epi64(_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0), broadcast(start % kLanes));
        const Lanes* from = elements_.data() + start / kLanes * 2 * limbs_;
        for (int i = 0; i < 2 * limbs_; ++i) {
            out[i] = _mm512_permutex2var_epi64(from[i], index, from[2 * limbs_ + i]);
        }
    }

    // Columns [0, L + 1) of eight lifts from `start` on.
    void read_lift(Lanes* out, size_t start) const {
        const size_t row = words_ / kLanes;
        const auto* overs = reinterpret_cast<const uint64_t*>(over_.data());
        auto* top = reinterpret_cast<uint64_t*>(out + limbs_);
        for (size_t lane = 0; lane < kLanes; ++lane) top[lane] = overs[std::min(start + lane, vectors_ * kLanes - 1)];
        for (size_t i = 0; i < row; ++i) {
            Lanes block[kLanes];
            for (size_t lane = 0; lane < kLanes; ++lane) {
                const size_t at = std::min(start + lane, vectors_ * kLanes - 1);
                block[lane] = lifts_[at * row + i];
            }
            transpose(block);
            for (size_t j = 0; j < kLanes && i * kLanes + j < static_cast<size_t>(limbs_); ++j) {
                out[i * kLanes + j] = block[j];
            }
        }
    }

    const int limbs_;
    const size_t words_;
    const int planes_;
    const Exponents& exponents_;
    const size_t vectors_;
    Vectors elements_;
    Vectors lifts_;
    Vectors over_;
};

// Table rows of a group: the residue's words, then the lift's.
void write_table(Lanes* table, const Lanes* products, size_t vectors, int limbs) {
    const size_t row = row_words(limbs) / kLanes;
    for (size_t v = 0; v < vectors; ++v) {
        for (int part = 0; part < 2; ++part) {
            const Lanes* from = products + v * 3 * limbs + part * 2 * limbs;
            for (size_t i = 0; i < row; ++i) {
                Lanes block[kLanes];
                for (int j = 0; j < kLanes; ++j) {
                    const int limb = static_cast<int>(i) * kLanes + j;
                    block[j] = limb < limbs ? from[limb] : _mm512_setzero_si512();
                }
                transpose(block);
                for (int lane = 0; lane < kLanes; ++lane) {
                    table[(v * kLanes + lane) * 2 * row + part * row + i] = block[lane];
                }
            }
        }
    }
}

// (product of all bases)^(-2^shift), in all lanes.
void shift_factor(
    Arithmetic& arithmetic, Element out, const Lanes* elements, size_t vectors, const Lanes* product_inverse,
    int shift) {
    const size_t l = arithmetic.limbs();
    Vectors sum(2 * l);
    std::memcpy(static_cast<void*>(sum.data()), elements, 2 * l * sizeof(Lanes));
    for (size_t v = 1; v < vectors; ++v) arithmetic.multiply(sum.data(), sum.data(), elements + v * 2 * l);
    for (int by = 4; by > 0; by /= 2) {
        Vectors other(2 * l);
        rotate_lanes(other.data(), sum.data(), static_cast<int>(2 * l), by);
        arithmetic.multiply(sum.data(), sum.data(), other.data());
    }
    // With x = R^2 / r, the product with (x, 0) stands for 1 + k n; its inverse is 2 - (1 + k n). n is added to the low
    // part twice and taken off the high part's count, which stays positive by its own multiple of n.
    Vectors near_one(2 * l);
    arithmetic.multiply_by_residue(near_one.data(), sum.data(), product_inverse);
    const Lanes* one = arithmetic.ring().r(1);
    const Lanes* n = arithmetic.ring().modulus();
    for (size_t i = 0; i < l; ++i) {
        const Lanes twice = _mm512_add_epi64(n[i], n[i]);
        const Lanes low = _mm512_sub_epi64(_mm512_add_epi64(one[i], one[i]), near_one[i]);
        const Lanes high = _mm512_sub_epi64(_mm512_add_epi64(one[l + i], one[l + i]), near_one[l + i]);
        near_one[i] = _mm512_add_epi64(low, twice);
        near_one[l + i] = _mm512_add_epi64(high, _mm512_add_epi64(twice, twice));
    }
    near_one[l] = _mm512_sub_epi64(near_one[l], broadcast(2));
    normalise(near_one.data(), near_one.data(), static_cast<int>(l));
    normalise(near_one.data() + l, near_one.data() + l, static_cast<int>(l));
    arithmetic.multiply_by_residue(out, near_one.data(), product_inverse);
    for (int i = 0; i < shift; ++i) arithmetic.square(out, out);
}

int planes_for(const int64_t* exponents, size_t size, int shift) {
    uint64_t all = uint64_t{1} << shift;
    for (size_t i = 0; i < size; ++i) all |= static_cast<uint64_t>(exponents[i]) + (uint64_t{1} << shift);
    return 64 - __builtin_clzll(all);
}

}  // namespace

void linear_map(
    const Ring& ring, uint8_t* out, const uint8_t* bases, size_t count, const int64_t* exponents, size_t rows,
    int shift, int workers, Inverter& inverter, Watch& watch) {
    if (count == 0) throw std::invalid_argument("a map needs a base");
    if (shift < 0 || shift > 63) throw std::invalid_argument("the shift must be 0 to 63");
    const size_t l = ring.limbs();
    const int limbs = ring.limbs();
    const int planes = planes_for(exponents, rows * count, shift);
    workers = useful(workers, std::max(count, rows * planes / kLanes));
    const size_t per_row = planes * (2 * l + row_words(limbs) + 1) * sizeof(uint64_t);
    const size_t slice = std::max<size_t>(kLanes, kAccumulatorBytes / per_row / kLanes * kLanes);
    const Plan plan = plan_groups(count, std::min(slice, rows) * planes, limbs, workers);

    const double accumulated = static_cast<double>(rows) * planes;
    Team team(workers, watch, accumulated * (static_cast<double>(plan.groups) + kJoinCost / kLookupCost));
    std::vector<Arithmetic> members = arithmetics(ring, workers);

    const size_t vectors = (count + kLanes - 1) / kLanes;
    Vectors elements(vectors * 2 * l);
    Vectors splits(vectors * 3 * l);
    Vectors product_inverse(l);
    Vectors one(3 * l);
    Vectors factor(2 * l);
    const size_t width = ring.element_bytes();
    team.each(vectors, [&](size_t v, int member) {
        Vectors number(2 * l);
        const size_t from = v * kLanes;
        members[member].load(
            number.data(), 2 * limbs, bases + from * width, width, std::min<size_t>(kLanes, count - from));
        members[member].enter(elements.data() + v * 2 * l, number.data());
    });
    split_all(team, members, splits.data(), product_inverse.data(), elements.data(), vectors, inverter);
    split_one(members[0], one.data());

    const size_t table_vectors = (size_t{1} << std::max(kMinGroup, plan.largest)) / kLanes;
    const size_t table_size = table_vectors * kLanes * 2 * row_words(limbs) / kLanes;
    Vectors tables(plan.at_a_time * table_size);
    const auto first_of = [&](size_t group) { return count * group / plan.groups; };

    bool factor_made = false;
    for (size_t start = 0; start < rows; start += slice) {
        const size_t height = std::min(slice, rows - start);
        const Exponents unsigned_exponents(exponents + start * count, height, count, shift);
        Accumulators accumulators(ring, unsigned_exponents, planes);
        const size_t total = accumulators.vectors();
        // Few enough vectors to stay in the second-level cache while many tables pass by.
        const size_t chunk = std::clamp<size_t>(
            total / (static_cast<size_t>(workers) * 16), 4, std::max<size_t>(4, kChunkBytes / accumulators.bytes()));
        for (size_t begin = 0; begin < plan.groups; begin += plan.at_a_time) {
            const size_t end = std::min(plan.groups, begin + plan.at_a_time);
            const size_t extra = factor_made ? 0 : 1;
            team.each(end - begin + extra, [&](size_t task, int member) {
                if (task < extra) {
                    shift_factor(
                        members[member], factor.data(), elements.data(), vectors, product_inverse.data(), shift);
                    return;
                }
                const size_t group = begin + task - extra;
                const size_t first = first_of(group);
                const size_t size = first_of(group + 1) - first;
                Vectors factors(size * 3 * l);
                for (size_t k = 0; k < size; ++k) {
                    broadcast_lane(
                        factors.data() + k * 3 * l, splits.data() + (first + k) / kLanes * 3 * l,
                        static_cast<int>((first + k) % kLanes), 3 * limbs);
                }
                const size_t filled = (size_t{1} << std::max<size_t>(kMinGroup, size)) / kLanes;
                Vectors products(filled * 3 * l);
                subset_products(
                    members[member], products.data(), factors.data(), static_cast<int>(size), one.data());
                write_table(tables.data() + (group - begin) * table_size, products.data(), filled, limbs);
            });
            factor_made = true;
            team.each((total + chunk - 1) / chunk, [&](size_t task, int member) {
                const size_t last = std::min(total, (task + 1) * chunk);
                for (size_t group = begin; group < end; ++group) {
                    const size_t first = first_of(group);
                    const Lanes* table = tables.data() + (group - begin) * table_size;
                    accumulators.take(
                        members[member], task * chunk, last, table, first, first_of(group + 1) - first, group == 0);
                    if (group % 1024 != 1023) continue;
                    for (size_t v = task * chunk; v < last; ++v) accumulators.carry(v);
                }
                team.done(static_cast<double>(last - task * chunk) * kLanes * static_cast<double>(end - begin));
            });
        }
        team.each((height + kLanes - 1) / kLanes, [&](size_t task, int member) {
            Arithmetic& arithmetic = members[member];
            const size_t row = task * kLanes;
            const size_t here = std::min<size_t>(kLanes, height - row);
            Vectors element(2 * l);
            Vectors lift(l + 2);
            accumulators.join(arithmetic, element.data(), lift.data(), row);
            reduce_lift(arithmetic, lift.data(), lift.data());
            lift_element(arithmetic, element.data(), lift.data());
            arithmetic.multiply(element.data(), element.data(), factor.data());
            arithmetic.leave(element.data(), element.data());
            arithmetic.store(
                out + (start + row) * width, width, here, element.data(), 2 * limbs);
            team.done(static_cast<double>(here) * planes * kJoinCost / kLookupCost);
        });
    }
}

}  // namespace sonar
