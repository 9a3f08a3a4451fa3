// Lim and Lee's comb (CRYPTO 1994): powers of one base with secret exponents.
//
// An exponent is cut into `teeth` runs of `columns` bits, and every run into `blocks` parts of `width` bits. For every
// block a table holds all products of the base's powers 2^(tooth columns + block width). Step k multiplies by one entry
// of every block's table, selected by bit k of that part of every tooth; between steps the accumulator is squared.
//
// Exponents are secret. A look-up reads the whole table and picks with register permutations and masks; loops, branches
// and addresses depend on public lengths alone.
#include <algorithm>
#include <stdexcept>

#include "split.h"

namespace sonar {

class Comb {
  public:
    Comb(std::shared_ptr<const Ring> ring, size_t exponent_bytes);
    void fill(const uint8_t* base, int workers, Inverter& inverter, Watch& watch);

    const Ring& ring() const { return *ring_; }
    size_t exponent_bytes() const { return exponent_bytes_; }
    size_t bytes() const { return tables_.size() * sizeof(Lanes); }

    // The powers for `count` exponents, as elements in so many vectors.
    void power(Arithmetic& arithmetic, Element out, size_t vectors, const uint8_t* exponents, size_t count) const;

  private:
    const Lanes* table(size_t block) const { return tables_.data() + block * table_vectors_; }
    void indices(Lanes* out, size_t vectors, const uint8_t* exponents, size_t count) const;

    std::shared_ptr<const Ring> ring_;
    size_t exponent_bytes_;
    int teeth_ = 0;
    size_t blocks_ = 0;
    size_t width_ = 0;
    size_t table_vectors_ = 0;
    // By block, then by limb of residue and lift, then by entry.
    Vectors tables_;
};

namespace {

constexpr size_t kMaxEntries = 1600;     // of all blocks: 1 MB at 2048 bits
constexpr double kPowersPerTable = 128;  // that tables are made for

constexpr size_t kBatch = 4;             // vectors of exponents for which a table is read at a time

// The table's entry for every lane of every vector, residue and lift. Every word of the table is read.
template <int kChunks, int kVectors>
void look_up(Lanes* out, const Lanes* table, const Lanes* index, int limbs) {
    Lanes places[kVectors];
    __mmask8 here[kVectors][kChunks];
    for (int v = 0; v < kVectors; ++v) {
        places[v] = index[v];
        const Lanes chunk = _mm512_srli_epi64(index[v], 4);
        for (int c = 0; c < kChunks; ++c) here[v][c] = _mm512_cmpeq_epi64_mask(chunk, broadcast(c));
    }
    for (int i = 0; i < limbs; ++i) {
        // Of sixteen entries in two registers the permutation picks one by the low four bits of the index.
        Lanes found[kVectors];
#pragma GCC unroll 16
        for (int c = 0; c < kChunks; ++c) {
            const Lanes low = table[2 * c];
            const Lanes high = table[2 * c + 1];
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                const Lanes entry = _mm512_permutex2var_epi64(low, places[v], high);
                found[v] = c == 0 ? entry : _mm512_mask_mov_epi64(found[v], here[v][c], entry);
            }
        }
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) out[v * limbs + i] = found[v];
        table += 2 * kChunks;
    }
}

template <int kChunks>
void look_up(size_t vectors, Lanes* out, const Lanes* table, const Lanes* index, int limbs) {
    switch (vectors) {
        case 1: return look_up<kChunks, 1>(out, table, index, limbs);
        case 2: return look_up<kChunks, 2>(out, table, index, limbs);
        case 3: return look_up<kChunks, 3>(out, table, index, limbs);
        default: return look_up<kChunks, 4>(out, table, index, limbs);
    }
}

void look_up(int teeth, size_t vectors, Lanes* out, const Lanes* table, const Lanes* index, int limbs) {
    switch (teeth) {
        case 4: return look_up<1>(vectors, out, table, index, limbs);
        case 5: return look_up<2>(vectors, out, table, index, limbs);
        case 6: return look_up<4>(vectors, out, table, index, limbs);
        case 7: return look_up<8>(vectors, out, table, index, limbs);
        default: return look_up<16>(vectors, out, table, index, limbs);
    }
}

}  // namespace

Comb::Comb(std::shared_ptr<const Ring> ring, size_t exponent_bytes)
    : ring_(std::move(ring)), exponent_bytes_(exponent_bytes) {
    const double limbs = ring_->limbs();
    const size_t bits = exponent_bytes * 8;
    double best = 0;
    for (int teeth = 4; teeth <= 8; ++teeth) {
        const size_t columns = (bits + teeth - 1) / teeth;
        for (size_t blocks = 1; blocks << teeth <= kMaxEntries && blocks <= columns; ++blocks) {
            const size_t width = (columns + blocks - 1) / blocks;
            const double entries = static_cast<double>(blocks << teeth);
            // In units of L^2 limb products, as measured: a table of 128 entries takes as long as 0.9 units at L = 40.
            const double scan = 0.275 * static_cast<double>(size_t{1} << teeth) / limbs;
            const double power = static_cast<double>(columns) * (4 + scan) + 3.8 * static_cast<double>(width - 1);
            const double cost = power * kPowersPerTable + 6 * entries;
            if (teeth_ == 0 || cost < best) {
                best = cost;
                teeth_ = teeth;
                blocks_ = blocks;
                width_ = width;
            }
        }
    }
    table_vectors_ = static_cast<size_t>(2) * ring_->limbs() * ((size_t{1} << teeth_) / kLanes);
    tables_ = Vectors(blocks_ * table_vectors_);
}

void Comb::fill(const uint8_t* base, int workers, Inverter& inverter, Watch& watch) {
    const size_t l = ring_->limbs();
    const int limbs = ring_->limbs();
    workers = useful(workers, blocks_);
    Team team(workers, watch, 0);
    std::vector<Arithmetic> members = arithmetics(*ring_, workers);
    Arithmetic& arithmetic = members[0];

    // The powers by tooth and block, eight to a vector, in the order in which squaring finds them.
    const size_t count = teeth_ * blocks_;
    const size_t columns = blocks_ * width_;
    const size_t vectors = (count + kLanes - 1) / kLanes;
    Vectors elements(vectors * 2 * l);
    for (size_t v = 0; v < vectors; ++v) {
        std::memcpy(static_cast<void*>(elements.data() + v * 2 * l), ring_->r(1), 2 * l * sizeof(Lanes));
    }
    Vectors power(2 * l);
    for (int lane = 0; lane < kLanes; ++lane) {
        load_lane(power.data(), lane, 2 * limbs, base, ring_->element_bytes());
    }
    arithmetic.enter(power.data(), power.data());
    for (size_t position = 0; position + width_ <= teeth_ * columns; ++position) {
        if (position > 0) arithmetic.square(power.data(), power.data());
        team.look_now_and_then();
        if (position % width_ != 0) continue;
        const size_t index = position / width_;
        Lanes* element = elements.data() + index / kLanes * 2 * l;
        const __mmask8 lane = static_cast<__mmask8>(1u << index % kLanes);
        for (size_t i = 0; i < 2 * l; ++i) element[i] = _mm512_mask_mov_epi64(element[i], lane, power[i]);
    }
    Vectors splits(vectors * 3 * l);
    split_all(team, members, splits.data(), nullptr, elements.data(), vectors, inverter);

    Vectors one(3 * l);
    split_one(arithmetic, one.data());
    const size_t entry_vectors = (size_t{1} << teeth_) / kLanes;
    team.each(blocks_, [&](size_t block, int member) {
        Vectors factors(teeth_ * 3 * l);
        for (int tooth = 0; tooth < teeth_; ++tooth) {
            const size_t index = tooth * blocks_ + block;
            broadcast_lane(
                factors.data() + tooth * 3 * l, splits.data() + index / kLanes * 3 * l,
                static_cast<int>(index % kLanes), 3 * limbs);
        }
        Vectors products(entry_vectors * 3 * l);
        subset_products(members[member], products.data(), factors.data(), teeth_, one.data());
        Lanes* to = tables_.data() + block * table_vectors_;
        for (size_t v = 0; v < entry_vectors; ++v) {
            const Lanes* from = products.data() + v * 3 * l;
            for (size_t i = 0; i < l; ++i) {
                to[i * entry_vectors + v] = from[i];
                to[(l + i) * entry_vectors + v] = from[2 * l + i];
            }
        }
    });
}

void Comb::indices(Lanes* out, size_t vectors, const uint8_t* exponents, size_t count) const {
    auto* words = reinterpret_cast<uint64_t*>(out);
    const size_t columns = blocks_ * width_;
    for (size_t step = 0; step < columns; ++step) {
        for (size_t lane = 0; lane < vectors * kLanes; ++lane) {
            const uint8_t* exponent = exponents + (lane < count ? lane : 0) * exponent_bytes_;
            uint64_t index = 0;
            for (int tooth = 0; tooth < teeth_; ++tooth) {
                const size_t bit = tooth * columns + step;
                if (bit / 8 < exponent_bytes_) index |= uint64_t{(exponent[bit / 8] >> bit % 8) & 1u} << tooth;
            }
            words[step * vectors * kLanes + lane] = index;
        }
    }
}

void Comb::power(Arithmetic& arithmetic, Element out, size_t vectors, const uint8_t* exponents, size_t count) const {
    const size_t l = ring_->limbs();
    const int limbs = ring_->limbs();
    Vectors index(blocks_ * width_ * vectors);
    indices(index.data(), vectors, exponents, count);
    Vectors entries(vectors * 2 * l);
    Vectors lifts(vectors * (l + 2));
    for (size_t v = 0; v < vectors; ++v) {
        std::memcpy(static_cast<void*>(out + v * 2 * l), ring_->r(1), 2 * l * sizeof(Lanes));
    }
    for (size_t step = width_; step-- > 0;) {
        if (step + 1 < width_) {
            for (size_t v = 0; v < vectors; ++v) arithmetic.square(out + v * 2 * l, out + v * 2 * l);
            for (size_t i = 0; i < lifts.size(); ++i) lifts[i] = _mm512_add_epi64(lifts[i], lifts[i]);
        }
        for (size_t block = 0; block < blocks_; ++block) {
            const Lanes* places = index.data() + (block * width_ + step) * vectors;
            look_up(teeth_, vectors, entries.data(), table(block), places, 2 * limbs);
            for (size_t v = 0; v < vectors; ++v) {
                const Lanes* entry = entries.data() + v * 2 * l;
                Lanes* lift = lifts.data() + v * (l + 2);
                for (size_t i = 0; i < l; ++i) lift[i] = _mm512_add_epi64(lift[i], entry[l + i]);
                arithmetic.multiply_by_residue(out + v * 2 * l, out + v * 2 * l, entry);
            }
        }
        for (size_t v = 0; v < vectors; ++v) {
            Lanes* lift = lifts.data() + v * (l + 2);
            normalise(lift, lift, limbs + 2);
            if (step % 32 != 0) continue;
            // Back below 2 n, before doubling makes it too long: REDC(R g R^2) = R^2 g.
            reduce_lift(arithmetic, lift, lift);
            if (step > 0) arithmetic.multiply_residues(lift, lift, ring_->r(2));
            lift[l] = lift[l + 1] = _mm512_setzero_si512();
        }
    }
    for (size_t v = 0; v < vectors; ++v) lift_element(arithmetic, out + v * 2 * l, lifts.data() + v * (l + 2));
}

std::shared_ptr<const Comb> make_comb(
    std::shared_ptr<const Ring> ring, const uint8_t* base, size_t exponent_bytes, int workers, Inverter& inverter,
    Watch& watch) {
    if (exponent_bytes == 0 || exponent_bytes > 8192) {
        throw std::invalid_argument("exponents must have 8 to 65536 bits");
    }
    auto comb = std::make_shared<Comb>(std::move(ring), exponent_bytes);
    comb->fill(base, workers, inverter, watch);
    return comb;
}

Sizes sizes_of(const Comb& comb) { return {comb.exponent_bytes(), comb.ring().element_bytes()}; }

size_t table_bytes(const Comb& comb) { return comb.bytes(); }

void comb_powers(const Comb& comb, uint8_t* out, const uint8_t* exponents, size_t count, int workers, Watch& watch) {
    const Ring& ring = comb.ring();
    const size_t width = ring.element_bytes();
    const size_t vectors = (count + kLanes - 1) / kLanes;
    workers = useful(workers, vectors);
    Team team(workers, watch, static_cast<double>(count));
    std::vector<Arithmetic> members = arithmetics(ring, workers);
    // A batch reads the tables once, but leaves no member without one.
    const size_t batch = std::clamp<size_t>(vectors / workers, 1, kBatch);
    team.each((vectors + batch - 1) / batch, [&](size_t task, int member) {
        const size_t first = task * batch;
        const size_t size = std::min(batch, vectors - first);
        const size_t element_size = static_cast<size_t>(2) * ring.limbs();
        const size_t from = first * kLanes;
        Vectors elements(size * element_size);
        comb.power(
            members[member], elements.data(), size, exponents + from * comb.exponent_bytes(),
            std::min(size * kLanes, count - from));
        for (size_t v = 0; v < size; ++v) {
            Lanes* element = elements.data() + v * element_size;
            const size_t here = std::min<size_t>(kLanes, count - from - v * kLanes);
            members[member].leave(element, element);
            members[member].store(
                out + (from + v * kLanes) * width, width, here, element, static_cast<int>(element_size));
            team.done(static_cast<double>(here));
        }
    });
}

}  // namespace sonar
