#include "split.h"

namespace sonar {
std::vector<Arithmetic> arithmetics(const Ring& ring, int workers) {
    std::vector<Arithmetic> members;
    members.reserve(workers);
    for (int i = 0; i < workers; ++i) members.emplace_back(ring);
    return members;
}

void broadcast_lane(Lanes* out, const Lanes* in, int lane, int vectors) {
    const auto* words = reinterpret_cast<const uint64_t*>(in) + lane;
    for (int i = 0; i < vectors; ++i) out[i] = broadcast(words[i * kLanes]);
}

void rotate_lanes(Lanes* out, const Lanes* in, int vectors, int by) {
    const Lanes index =
        _mm512_and_si512(_mm512_add_epi64(_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0), broadcast(by)), broadcast(7));
    for (int i = 0; i < vectors; ++i) out[i] = _mm512_permutexvar_epi64(index, in[i]);
}

void split_one(Arithmetic& arithmetic, Split out) {
    const Ring& ring = arithmetic.ring();
    const size_t l = ring.limbs();
    std::memcpy(static_cast<void*>(out), ring.r(1), l * sizeof(Lanes));
    std::memcpy(static_cast<void*>(out + l), ring.r(1), l * sizeof(Lanes));
    arithmetic.multiply_residues(out + 2 * l, ring.r(1) + l, ring.r(1));
    arithmetic.multiply_residues(out + 2 * l, out + 2 * l, ring.r(2));
}

void split_all(
    Team& team, std::vector<Arithmetic>& members, Lanes* splits, Lanes* product_inverse, const Lanes* elements,
    size_t vectors, Inverter& inverter) {
    Arithmetic& arithmetic = members[0];
    const Ring& ring = arithmetic.ring();
    const size_t l = ring.limbs();
    const int limbs = ring.limbs();
    const auto residue = [&](size_t v) { return elements + v * 2 * l; };

    // Montgomery's trick: the inverse of a product of all, then back through the prefixes (their place is where the
    // inverses go), first over vectors and then over halves of the lanes.
    const auto prefix = [&](size_t v) { return splits + v * 3 * l + l; };
    std::memcpy(static_cast<void*>(prefix(0)), residue(0), l * sizeof(Lanes));
    for (size_t v = 1; v < vectors; ++v) {
        arithmetic.multiply_residues(prefix(v), prefix(v - 1), residue(v));
        team.look_now_and_then();
    }
    Vectors half[4];
    Vectors other[3];
    half[0] = Vectors(l);
    std::memcpy(static_cast<void*>(half[0].data()), prefix(vectors - 1), l * sizeof(Lanes));
    for (int step = 0; step < 3; ++step) {
        half[step + 1] = Vectors(l);
        other[step] = Vectors(l);
        rotate_lanes(other[step].data(), half[step].data(), limbs, 4 >> step);
        arithmetic.multiply_residues(half[step + 1].data(), half[step].data(), other[step].data());
    }

    std::vector<uint8_t> bytes(ring.residue_bytes());
    Vectors inverse(l);
    std::memcpy(static_cast<void*>(inverse.data()), half[3].data(), l * sizeof(Lanes));
    arithmetic.subtract_modulus(inverse.data());
    arithmetic.store(bytes.data(), bytes.size(), 1, inverse.data(), limbs);
    if (!inverter.invert(bytes.data(), bytes.size())) throw Stopped();
    for (int lane = 0; lane < kLanes; ++lane) load_lane(inverse.data(), lane, limbs, bytes.data(), bytes.size());
    // 1 / r to R^2 / r: r(2) and r(4) are R^2 and R^4 mod n in their low parts.
    arithmetic.multiply_residues(inverse.data(), inverse.data(), ring.r(2));
    arithmetic.multiply_residues(inverse.data(), inverse.data(), ring.r(2));
    if (product_inverse != nullptr) {
        std::memcpy(static_cast<void*>(product_inverse), inverse.data(), l * sizeof(Lanes));
    }
    for (int step = 2; step >= 0; --step) {
        arithmetic.multiply_residues(inverse.data(), inverse.data(), other[step].data());
    }
    for (size_t v = vectors - 1; v > 0; --v) {
        arithmetic.multiply_residues(prefix(v), inverse.data(), prefix(v - 1));
        arithmetic.multiply_residues(inverse.data(), inverse.data(), residue(v));
        team.look_now_and_then();
    }
    std::memcpy(static_cast<void*>(prefix(0)), inverse.data(), l * sizeof(Lanes));

    team.each(vectors, [&](size_t v, int member) {
        Lanes* split = splits + v * 3 * l;
        const Lanes* element = elements + v * 2 * l;
        std::memcpy(static_cast<void*>(split), element, l * sizeof(Lanes));
        // g = y / x mod n of the element x + y n.
        members[member].multiply_residues(split + 2 * l, element + l, split + l);
        members[member].multiply_residues(split + 2 * l, split + 2 * l, ring.r(2));
    });
}

void multiply_splits(Arithmetic& arithmetic, Split out, ConstSplit x, ConstSplit y) {
    const Radix& radix = arithmetic.ring().radix();
    const int l = radix.limbs;
    product(radix, arithmetic.columns(), x, y, arithmetic.scratch());
    product(radix, arithmetic.more_columns(), x + l, y + l, arithmetic.scratch());
    reduce_both(
        radix, out, arithmetic.quotient(), arithmetic.columns(), out + l, arithmetic.more_columns());
    product(radix, arithmetic.columns(), arithmetic.quotient(), out + l, arithmetic.scratch());
    Lanes* carried = arithmetic.more_columns();
    reduce(radix, carried, arithmetic.quotient(), arithmetic.columns());
    const Lanes* n = arithmetic.ring().modulus();
    for (int i = 0; i < l; ++i) {
        const Lanes lifts = _mm512_add_epi64(x[2 * l + i], y[2 * l + i]);
        carried[i] = _mm512_sub_epi64(_mm512_add_epi64(lifts, _mm512_add_epi64(n[i], n[i])), carried[i]);
    }
    normalise(out + 2 * l, carried, l);
}

void subset_products(Arithmetic& arithmetic, Lanes* table, const Lanes* factors, int count, ConstSplit one) {
    const size_t size = static_cast<size_t>(3) * arithmetic.limbs();
    std::memcpy(static_cast<void*>(table), one, size * sizeof(Lanes));
    Vectors choice(size);
    for (int k = 0; k < count && k < 3; ++k) {
        // The lanes whose index has bit k take factor k.
        const __mmask8 in = k == 0 ? 0xaa : k == 1 ? 0xcc : 0xf0;
        Lanes* to = k == 0 ? table : choice.data();
        for (size_t i = 0; i < size; ++i) to[i] = _mm512_mask_mov_epi64(one[i], in, factors[k * size + i]);
        if (k > 0) multiply_splits(arithmetic, table, table, choice.data());
    }
    for (int k = 3; k < count; ++k) {
        const size_t filled = size_t{1} << (k - 3);
        for (size_t v = 0; v < filled; ++v) {
            multiply_splits(arithmetic, table + (filled + v) * size, table + v * size, factors + k * size);
        }
    }
}

void reduce_lift(Arithmetic& arithmetic, Lanes* out, const Lanes* lift) {
    const Radix& radix = arithmetic.ring().radix();
    Lanes* columns = arithmetic.columns();
    for (int i = 0; i < 2 * radix.limbs; ++i) columns[i] = i < radix.limbs + 2 ? lift[i] : _mm512_setzero_si512();
    reduce(radix, out, arithmetic.quotient(), columns);
}

void lift_element(Arithmetic& arithmetic, Element element, const Lanes* lift) {
    const int l = arithmetic.limbs();
    Lanes* sum = arithmetic.more_columns();
    arithmetic.multiply_residues(sum, element, lift);
    for (int i = 0; i < l; ++i) sum[i] = _mm512_add_epi64(sum[i], element[l + i]);
    normalise(element + l, sum, l);
}

}  // namespace sonar
