// Products of elements, pair by pair and with public weights.
#include <algorithm>
#include <stdexcept>

#include "api.h"
#include "ring.h"
#include "split.h"
#include "team.h"

namespace sonar {
namespace {

size_t vectors_for(size_t count) { return (count + kLanes - 1) / kLanes; }

size_t lanes_in(size_t count, size_t v) { return std::min<size_t>(kLanes, count - v * kLanes); }

// Vectors that one task takes, so that tasks are neither too many nor too few.
size_t chunk_of(size_t vectors, int workers) {
    return std::max<size_t>(1, vectors / (static_cast<size_t>(workers) * 16));
}

// Calls work(v, member) for all vectors.
template <class Work>
void each_vector(Team& team, size_t count, Work work) {
    const size_t vectors = vectors_for(count);
    const size_t chunk = chunk_of(vectors, team.workers());
    team.each((vectors + chunk - 1) / chunk, [&](size_t task, int member) {
        for (size_t v = task * chunk; v < std::min(vectors, (task + 1) * chunk); ++v) {
            work(v, member);
            team.done(static_cast<double>(lanes_in(count, v)));
        }
    });
}

}  // namespace

int radix_bits(int bits) { return shape_for(bits).limbs * kLimbBits; }

std::shared_ptr<const Ring> make_ring(
    const uint8_t* modulus, size_t width, const uint8_t* r_cubed, size_t r_cubed_width) {
    return std::make_shared<const Ring>(modulus, width, r_cubed, r_cubed_width);
}

Sizes sizes_of(const Ring& ring) { return {ring.residue_bytes(), ring.element_bytes()}; }

void residue_product(
    const Ring& ring, uint8_t* out, const uint8_t* elements, size_t count, int workers, Watch& watch) {
    const size_t l = ring.limbs();
    const int limbs = ring.limbs();
    const size_t width = ring.element_bytes();
    workers = useful(workers, vectors_for(count));
    Team team(workers, watch, static_cast<double>(count));
    std::vector<Arithmetic> members = arithmetics(ring, workers);
    std::vector<Vectors> products;
    for (int i = 0; i < workers; ++i) {
        products.emplace_back(l);
        std::memcpy(static_cast<void*>(products.back().data()), ring.r(1), l * sizeof(Lanes));
    }
    // Factors of R, which every REDC leaves, are coprime to n.
    each_vector(team, count, [&](size_t v, int member) {
        Vectors number(2 * l);
        Arithmetic& arithmetic = members[member];
        arithmetic.load(number.data(), 2 * limbs, elements + v * kLanes * width, width, lanes_in(count, v));
        arithmetic.reduce_number(number.data(), number.data());
        Lanes* product = products[member].data();
        arithmetic.multiply_residues(product, product, number.data());
    });
    Arithmetic& arithmetic = members[0];
    Vectors all(l);
    Vectors other(l);
    std::memcpy(static_cast<void*>(all.data()), ring.r(1), l * sizeof(Lanes));
    for (const Vectors& product : products) arithmetic.multiply_residues(all.data(), all.data(), product.data());
    for (int by = 4; by > 0; by /= 2) {
        rotate_lanes(other.data(), all.data(), limbs, by);
        arithmetic.multiply_residues(all.data(), all.data(), other.data());
    }
    arithmetic.subtract_modulus(all.data());
    arithmetic.store(out, ring.residue_bytes(), 1, all.data(), limbs);
}

void multiply(
    const Ring& ring, uint8_t* out, const uint8_t* left, const uint8_t* right, size_t count, int workers,
    Watch& watch) {
    const size_t l = ring.limbs();
    const int limbs = ring.limbs();
    const size_t width = ring.element_bytes();
    workers = useful(workers, vectors_for(count));
    Team team(workers, watch, static_cast<double>(count));
    std::vector<Arithmetic> members = arithmetics(ring, workers);
    each_vector(team, count, [&](size_t v, int member) {
        Arithmetic& arithmetic = members[member];
        const size_t from = v * kLanes * width;
        const size_t here = lanes_in(count, v);
        Vectors x(2 * l);
        Vectors y(2 * l);
        arithmetic.load(x.data(), 2 * limbs, left + from, width, here);
        arithmetic.load(y.data(), 2 * limbs, right + from, width, here);
        // (x / R) (y / R) / R, and R^4 / R makes up for all three.
        arithmetic.divide(x.data(), x.data());
        arithmetic.divide(y.data(), y.data());
        arithmetic.multiply(x.data(), x.data(), y.data());
        arithmetic.multiply(x.data(), x.data(), ring.r(4));
        arithmetic.join(x.data(), x.data());
        arithmetic.store(out + from, width, here, x.data(), 2 * limbs);
    });
}

void add_plaintexts(
    const Ring& ring, uint8_t* out, const uint8_t* elements, const uint8_t* plaintexts, size_t count, int workers,
    Watch& watch) {
    const size_t l = ring.limbs();
    const int limbs = ring.limbs();
    const size_t width = ring.element_bytes();
    const size_t residue_width = ring.residue_bytes();
    workers = useful(workers, vectors_for(count));
    Team team(workers, watch, static_cast<double>(count));
    std::vector<Arithmetic> members = arithmetics(ring, workers);
    each_vector(team, count, [&](size_t v, int member) {
        Arithmetic& arithmetic = members[member];
        const size_t here = lanes_in(count, v);
        Vectors element(2 * l);
        Vectors plaintext(l);
        arithmetic.load(element.data(), 2 * limbs, elements + v * kLanes * width, width, here);
        arithmetic.load(plaintext.data(), limbs, plaintexts + v * kLanes * residue_width, residue_width, here);
        // (x + y n) / R with its plaintext: the high part grows by REDC(x R plaintext), and R^2 / R undoes the division.
        arithmetic.divide(element.data(), element.data());
        arithmetic.multiply_residues(plaintext.data(), plaintext.data(), ring.r(2));
        lift_element(arithmetic, element.data(), plaintext.data());
        arithmetic.multiply(element.data(), element.data(), ring.r(2));
        arithmetic.join(element.data(), element.data());
        arithmetic.store(out + v * kLanes * width, width, here, element.data(), 2 * limbs);
    });
}

void weighted_products(
    const Ring& ring, uint8_t* out, const uint8_t* factors, size_t factor_count, size_t count, const Step* given,
    size_t step_count, int workers, Watch& watch) {
    constexpr int kMaxDigit = 63;
    const size_t l = ring.limbs();
    const int limbs = ring.limbs();
    const size_t width = ring.element_bytes();
    // A copy, which no other thread of the caller's can change after it has been checked.
    const std::vector<Step> steps(given, given + step_count);
    // Odd powers 1, 3, .. of every factor, as many as its digits need, are kept from here on.
    std::vector<size_t> powers(factor_count, 0);
    for (size_t i = 0; i < step_count; ++i) {
        const Step& step = steps[i];
        if (step.factor < 0 || static_cast<size_t>(step.factor) >= factor_count || step.digit < 1 ||
            step.digit > kMaxDigit || step.digit % 2 == 0 || step.position < 0 ||
            (i > 0 && step.position > steps[i - 1].position)) {
            throw std::invalid_argument("steps must have falling positions, odd digits below 64 and known factors");
        }
        powers[step.factor] = std::max(powers[step.factor], (static_cast<size_t>(step.digit) + 1) / 2);
    }
    std::vector<size_t> first(factor_count + 1, 0);
    for (size_t j = 0; j < factor_count; ++j) first[j + 1] = first[j] + powers[j];

    workers = useful(workers, vectors_for(count));
    Team team(workers, watch, static_cast<double>(count));
    std::vector<Arithmetic> members = arithmetics(ring, workers);
    team.each(vectors_for(count), [&](size_t v, int member) {
        Arithmetic& arithmetic = members[member];
        const size_t here = lanes_in(count, v);
        Vectors table(first[factor_count] * 2 * l);
        Vectors element(2 * l);
        for (size_t j = 0; j < factor_count; ++j) {
            if (powers[j] == 0) continue;
            Lanes* power = table.data() + first[j] * 2 * l;
            arithmetic.load(power, 2 * limbs, factors + (j * count + v * kLanes) * width, width, here);
            arithmetic.enter(power, power);
            if (powers[j] > 1) arithmetic.square(element.data(), power);
            for (size_t k = 1; k < powers[j]; ++k) {
                arithmetic.multiply(power + k * 2 * l, power + (k - 1) * 2 * l, element.data());
            }
        }
        std::memcpy(static_cast<void*>(element.data()), ring.r(1), 2 * l * sizeof(Lanes));
        for (size_t i = 0; i < step_count; ++i) {
            const Lanes* power = table.data() + (first[steps[i].factor] + steps[i].digit / 2) * 2 * l;
            if (i == 0) {
                std::memcpy(static_cast<void*>(element.data()), power, 2 * l * sizeof(Lanes));
            } else {
                arithmetic.multiply(element.data(), element.data(), power);
            }
            const int32_t next = i + 1 < step_count ? steps[i + 1].position : 0;
            for (int32_t at = steps[i].position; at > next; --at) arithmetic.square(element.data(), element.data());
        }
        arithmetic.leave(element.data(), element.data());
        arithmetic.store(out + v * kLanes * width, width, here, element.data(), 2 * limbs);
        team.done(static_cast<double>(here));
    });
}

}  // namespace sonar
