// Decryption with the primes (Paillier 1999, section 7): m mod p from c^(p - 1) mod p^2, likewise q, and the Chinese
// remainder theorem.
//
// The primes are secret, and so is all that is computed here. Addresses, branches and loops depend on the lengths of
// the primes and of the ciphertexts alone: windows of the exponent are looked up by reading the whole table.
#include <algorithm>
#include <stdexcept>

#include "api.h"
#include "ring.h"
#include "split.h"
#include "team.h"

namespace sonar {
namespace {

constexpr int kWindow = 4;
constexpr int kEntries = 1 << kWindow;
constexpr size_t kNormaliseEvery = 16;

// Limbs that hold numbers of so many bytes, filled up to whole chunks of L.
size_t chunks_for(size_t width, int limbs) {
    const size_t needed = (width * 8 + kLimbBits - 1) / kLimbBits;
    return (needed + limbs - 1) / limbs;
}

// c mod p^2 in Montgomery form, for numbers of `chunks` times L limbs: the sum of chunk_i R^(i + 2) / R.
void enter_long(Arithmetic& arithmetic, Element out, const Lanes* number, size_t chunks) {
    const Ring& ring = arithmetic.ring();
    const size_t l = ring.limbs();
    Vectors power(2 * l);
    Vectors term(2 * l);
    std::memcpy(static_cast<void*>(power.data()), ring.r(2), 2 * l * sizeof(Lanes));
    std::memset(static_cast<void*>(out), 0, 2 * l * sizeof(Lanes));
    for (size_t i = 0; i < chunks; ++i) {
        if (i > 0) arithmetic.multiply(power.data(), power.data(), ring.r(2));
        // A chunk may be as large as R; so a term is below 3 p, and a few terms are far below R.
        arithmetic.multiply_by_residue(term.data(), power.data(), number + i * l);
        for (size_t j = 0; j < 2 * l; ++j) out[j] = _mm512_add_epi64(out[j], term[j]);
        normalise(out, out, static_cast<int>(l));
        normalise(out + l, out + l, static_cast<int>(l));
        if (i % kNormaliseEvery == kNormaliseEvery - 1 || i + 1 == chunks) arithmetic.multiply(out, out, ring.r(1));
    }
}

// x mod q below 2 q, for numbers of `chunks` times L limbs.
void reduce_long(Arithmetic& arithmetic, Lanes* out, const Lanes* number, size_t chunks) {
    const Ring& ring = arithmetic.ring();
    const size_t l = ring.limbs();
    Vectors power(l);
    Vectors term(l);
    std::memcpy(static_cast<void*>(power.data()), ring.r(1), l * sizeof(Lanes));
    std::memset(static_cast<void*>(out), 0, l * sizeof(Lanes));
    for (size_t i = 0; i < chunks; ++i) {
        if (i > 0) arithmetic.multiply_residues(power.data(), power.data(), ring.r(2));
        arithmetic.multiply_residues(term.data(), power.data(), number + i * l);
        for (size_t j = 0; j < l; ++j) out[j] = _mm512_add_epi64(out[j], term[j]);
        normalise(out, out, static_cast<int>(l));
        if (i % kNormaliseEvery == kNormaliseEvery - 1 || i + 1 == chunks) {
            arithmetic.multiply_residues(out, out, ring.r(1));
        }
    }
}

// Window `index` of p - 1, windows from the bottom.
uint64_t exponent_window(const Radix& radix, int index) {
    uint64_t window = 0;
    for (int bit = index * kWindow; bit < (index + 1) * kWindow; ++bit) {
        // p is odd: p - 1 differs from it in the lowest bit alone.
        if (bit == 0 || bit / kLimbBits >= radix.limbs) continue;
        window |= (radix.modulus[bit / kLimbBits] >> bit % kLimbBits & 1) << (bit - index * kWindow);
    }
    return window;
}

// Entry `index` of the table; all entries are read.
void look_up(Element out, const Lanes* table, uint64_t index, size_t vectors) {
    __mmask8 here[kEntries];
    for (int e = 0; e < kEntries; ++e) here[e] = _mm512_cmpeq_epi64_mask(broadcast(index), broadcast(e));
    for (size_t i = 0; i < vectors; ++i) {
        Lanes found = _mm512_setzero_si512();
#pragma GCC unroll 16
        for (int e = 0; e < kEntries; ++e) found = _mm512_mask_mov_epi64(found, here[e], table[e * vectors + i]);
        out[i] = found;
    }
}

// element^(p - 1), with a fixed window.
void power(Arithmetic& arithmetic, Element element) {
    const Ring& ring = arithmetic.ring();
    const size_t size = static_cast<size_t>(2) * ring.limbs();
    Vectors table(kEntries * size);
    Vectors entry(size);
    std::memcpy(static_cast<void*>(table.data()), ring.r(1), size * sizeof(Lanes));
    std::memcpy(static_cast<void*>(table.data() + size), element, size * sizeof(Lanes));
    for (int e = 2; e < kEntries; ++e) {
        Lanes* to = table.data() + e * size;
        if (e % 2 == 0) {
            arithmetic.square(to, table.data() + e / 2 * size);
        } else {
            arithmetic.multiply(to, to - size, element);
        }
    }
    const int windows = (ring.bits() + kWindow - 1) / kWindow;
    look_up(element, table.data(), exponent_window(ring.radix(), windows - 1), size);
    for (int w = windows - 2; w >= 0; --w) {
        for (int i = 0; i < kWindow; ++i) arithmetic.square(element, element);
        look_up(entry.data(), table.data(), exponent_window(ring.radix(), w), size);
        arithmetic.multiply(element, element, entry.data());
    }
}

// m mod p, canonical: L limbs. c^(p - 1) = 1 + k p, and m = -k / q.
void plaintext_residue(
    Arithmetic& arithmetic, Lanes* out, const Lanes* inverse, const Lanes* ciphertext, size_t chunks) {
    const Ring& ring = arithmetic.ring();
    const size_t l = ring.limbs();
    Vectors element(2 * l);
    enter_long(arithmetic, element.data(), ciphertext, chunks);
    power(arithmetic, element.data());
    arithmetic.divide_element(element.data(), element.data());
    Lanes* k = element.data() + l;
    arithmetic.multiply_residues(k, k, inverse);
    arithmetic.multiply_residues(k, k, ring.r(2));
    arithmetic.subtract_modulus(k);
    for (size_t i = 0; i < l; ++i) out[i] = _mm512_sub_epi64(ring.modulus()[i], k[i]);
    normalise(out, out, static_cast<int>(l));
    arithmetic.subtract_modulus(out);
}

// m < p q from m_p and m_q: m_p + p ((m_q - m_p) / p mod q).
void recombine(
    Arithmetic& arithmetic_q, Lanes* out, const Ring& ring_p, const Lanes* m_p, const Lanes* m_q,
    const Lanes* inverse_q) {
    const Ring& ring_q = arithmetic_q.ring();
    const size_t lp = ring_p.limbs();
    const size_t lq = ring_q.limbs();
    const size_t chunks = (lp + lq - 1) / lq;
    Vectors padded(chunks * lq);
    std::memcpy(static_cast<void*>(padded.data()), m_p, lp * sizeof(Lanes));
    Vectors u(lq);
    reduce_long(arithmetic_q, u.data(), padded.data(), chunks);
    for (size_t i = 0; i < lq; ++i) {
        const Lanes twice = _mm512_add_epi64(ring_q.modulus()[i], ring_q.modulus()[i]);
        u[i] = _mm512_sub_epi64(_mm512_add_epi64(m_q[i], twice), u[i]);
    }
    normalise(u.data(), u.data(), static_cast<int>(lq));
    arithmetic_q.multiply_residues(u.data(), u.data(), inverse_q);
    arithmetic_q.multiply_residues(u.data(), u.data(), ring_q.r(2));
    arithmetic_q.subtract_modulus(u.data());
    for (size_t i = 0; i < lp + lq; ++i) out[i] = i < lp ? m_p[i] : _mm512_setzero_si512();
    for (size_t i = 0; i < lp; ++i) {
        const Lanes limb = ring_p.modulus()[i];
        for (size_t j = 0; j < lq; ++j) {
            out[i + j] = _mm512_madd52lo_epu64(out[i + j], limb, u[j]);
            out[i + j + 1] = _mm512_madd52hi_epu64(out[i + j + 1], limb, u[j]);
        }
    }
    normalise(out, out, static_cast<int>(lp + lq));
}

}  // namespace

void decrypt(
    const Prime& p, const Prime& q, uint8_t* out, size_t out_width, const uint8_t* ciphertexts, size_t width,
    size_t count, int workers, Watch& watch) {
    const Prime* primes[2] = {&p, &q};
    const size_t vectors = (count + kLanes - 1) / kLanes;
    workers = useful(workers, 2 * vectors);
    Team team(workers, watch, static_cast<double>(2 * count));
    std::vector<Arithmetic> members[2];
    Vectors residues[2];
    Vectors inverses[2];
    for (int i = 0; i < 2; ++i) {
        const Ring& ring = primes[i]->ring;
        members[i] = arithmetics(ring, workers);
        residues[i] = Vectors(vectors * ring.limbs());
        inverses[i] = Vectors(ring.limbs());
        for (int lane = 0; lane < kLanes; ++lane) {
            load_lane(inverses[i].data(), lane, ring.limbs(), primes[i]->inverse, ring.residue_bytes());
        }
    }
    team.each(2 * vectors, [&](size_t task, int member) {
        const int i = task % 2;
        const size_t v = task / 2;
        const size_t here = std::min<size_t>(kLanes, count - v * kLanes);
        const int limbs = primes[i]->ring.limbs();
        const size_t chunks = chunks_for(width, limbs);
        Arithmetic& arithmetic = members[i][member];
        Vectors number(chunks * limbs);
        arithmetic.load(
            number.data(), static_cast<int>(chunks) * limbs, ciphertexts + v * kLanes * width, width, here);
        plaintext_residue(
            arithmetic, residues[i].data() + v * limbs, inverses[i].data(), number.data(), chunks);
        team.done(static_cast<double>(here));
    });
    team.each(vectors, [&](size_t v, int member) {
        const size_t lp = p.ring.limbs();
        const size_t lq = q.ring.limbs();
        const size_t here = std::min<size_t>(kLanes, count - v * kLanes);
        Vectors number(lp + lq);
        recombine(
            members[1][member], number.data(), p.ring, residues[0].data() + v * lp, residues[1].data() + v * lq,
            inverses[1].data());
        members[1][member].store(
            out + v * kLanes * out_width, out_width, here, number.data(), static_cast<int>(lp + lq));
    });
}

}  // namespace sonar
