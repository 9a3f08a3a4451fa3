#include "kernels.h"

namespace sonar {
namespace {

// How a strip meets the columns in memory: those that nothing was added to yet need not be loaded.
enum class Columns { kNone, kAllButLast, kAll };

inline Lanes low(Lanes sum, Lanes x, Lanes y) { return _mm512_madd52lo_epu64(sum, x, y); }
inline Lanes high(Lanes sum, Lanes x, Lanes y) { return _mm512_madd52hi_epu64(sum, x, y); }

// Limb `index` of a factor that is the same in all lanes, or of one that has its own in each.
inline Lanes limb(const uint64_t* factor, int index) { return broadcast(factor[index]); }
inline Lanes limb(const Lanes* factor, int index) { return factor[index]; }

// K limbs y_0 .. y_(K-1) of a factor pass by the K limbs x of the strip. The window holds columns[0, K) when they come
// and columns[K, 2 K) when they have gone; in between each column is finished, stored and replaced.
template <int K, bool kFresh, class Factor>
[[gnu::always_inline]] inline void pass(const Lanes (&x)[K], Lanes (&window)[K], const Factor* y, Lanes* columns) {
#pragma GCC unroll 16
    for (int j = 0; j < K; ++j) {
        const Lanes limb_j = limb(y, j);
        Lanes next = kFresh ? _mm512_setzero_si512() : columns[K + j];
        // All high halves before all low halves, so that no multiplication waits for the one before it.
#pragma GCC unroll 16
        for (int k = 0; k < K - 1; ++k) window[(j + k + 1) % K] = high(window[(j + k + 1) % K], x[k], limb_j);
        next = high(next, x[K - 1], limb_j);
#pragma GCC unroll 16
        for (int k = 0; k < K; ++k) window[(j + k) % K] = low(window[(j + k) % K], x[k], limb_j);
        columns[j] = window[j];
        window[j] = next;
    }
}

// columns[0, L + K) += x[0, K) y[0, L).
template <int K, Columns kColumns>
[[gnu::always_inline]] inline void multiply_strip(Lanes* columns, const Lanes* x, const Lanes* y, int limbs) {
    Lanes strip[K];
    Lanes window[K];
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) {
        strip[k] = x[k];
        window[k] = kColumns == Columns::kNone ? _mm512_setzero_si512() : columns[k];
    }
    int j = 0;
    for (; j < limbs - K; j += K) pass<K, kColumns == Columns::kNone>(strip, window, y + j, columns + j);
    pass<K, kColumns != Columns::kAll>(strip, window, y + j, columns + j);
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) columns[limbs + k] = window[k];
}

template <int K>
void product_of(int limbs, Lanes* columns, const Lanes* x, const Lanes* y) {
    multiply_strip<K, Columns::kNone>(columns, x, y, limbs);
    for (int i = K; i < limbs; i += K) multiply_strip<K, Columns::kAllButLast>(columns + i, x + i, y, limbs);
}

template <int K>
void add_product_of(int limbs, Lanes* columns, const Lanes* x, const Lanes* y) {
    for (int i = 0; i < limbs; i += K) multiply_strip<K, Columns::kAll>(columns + i, x + i, y, limbs);
}

// columns[0, 2 K) += the products of pairs of different limbs of x[0, K), each once.
template <int K>
[[gnu::always_inline]] inline void multiply_triangle(Lanes* columns, const Lanes* x) {
    Lanes sums[2 * K];
#pragma GCC unroll 32
    for (int k = 0; k < 2 * K; ++k) sums[k] = columns[k];
#pragma GCC unroll 16
    for (int j = 0; j < K; ++j) {
#pragma GCC unroll 16
        for (int k = j + 1; k < K; ++k) sums[j + k] = low(sums[j + k], x[j], x[k]);
#pragma GCC unroll 16
        for (int k = j + 1; k < K; ++k) sums[j + k + 1] = high(sums[j + k + 1], x[j], x[k]);
    }
#pragma GCC unroll 32
    for (int k = 0; k < 2 * K; ++k) columns[k] = sums[k];
}

template <int K>
void square_of(int limbs, Lanes* columns, const Lanes* x) {
    for (int i = 0; i < 2 * limbs; ++i) columns[i] = _mm512_setzero_si512();
    for (int i = 0; i < limbs; i += K) {
        multiply_triangle<K>(columns + 2 * i, x + i);
        if (i + K < limbs) {
            multiply_strip<K, Columns::kAll>(columns + 2 * i + K, x + i, x + i + K, limbs - i - K);
        }
    }
    for (int i = 0; i < limbs; ++i) {
        const Lanes even = columns[2 * i];
        const Lanes odd = columns[2 * i + 1];
        columns[2 * i] = low(_mm512_add_epi64(even, even), x[i], x[i]);
        columns[2 * i + 1] = high(_mm512_add_epi64(odd, odd), x[i], x[i]);
    }
}

// The next K limbs of the quotient: m (columns[0, K) - taken) such that adding m n clears these columns. Their carry
// goes to columns[K]. This is one long chain of dependent steps; independent work follows every call and fills it.
template <int K, bool kTake>
[[gnu::always_inline]] inline void quotient_strip(
    const Radix& radix, Lanes* quotient, Lanes* columns, const Lanes* taken) {
    const uint64_t* n = radix.modulus;
    const Lanes inverse = broadcast(radix.negated_inverse);
    const Lanes mask = broadcast(kLimbMask);
    const Lanes zero = _mm512_setzero_si512();
    Lanes sums[K];
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) sums[k] = kTake ? _mm512_sub_epi64(columns[k], taken[k]) : columns[k];
    Lanes carry = zero;
#pragma GCC unroll 16
    for (int d = 0; d < K; ++d) {
        sums[d] = _mm512_add_epi64(sums[d], carry);
        const Lanes digit = low(zero, sums[d], inverse);
        quotient[d] = digit;
        // The column becomes a multiple of 2^52 by adding at most 2^52 - 1: its carry is known before the digit is.
        carry = _mm512_srai_epi64(_mm512_add_epi64(sums[d], mask), kLimbBits);
        if (d + 1 < K) {
            sums[d + 1] = _mm512_add_epi64(
                high(sums[d + 1], digit, limb(n, 0)), low(zero, digit, limb(n, 1)));
        }
#pragma GCC unroll 16
        for (int k = d + 2; k < K; ++k) sums[k] = low(sums[k], digit, limb(n, k - d));
#pragma GCC unroll 16
        for (int k = d + 2; k < K; ++k) sums[k] = high(sums[k], digit, limb(n, k - d - 1));
    }
    columns[K] = _mm512_add_epi64(columns[K], carry);
}

// columns[K, L + K) += those products of quotient[0, K) and the modulus that quotient_strip has not done.
template <int K>
[[gnu::always_inline]] inline void reduce_strip(const Radix& radix, Lanes* columns, const Lanes* quotient) {
    const uint64_t* n = radix.modulus;
    Lanes strip[K];
    Lanes window[K];
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) {
        strip[k] = quotient[k];
        window[k] = columns[K + k];
    }
#pragma GCC unroll 16
    for (int j = 0; j < K; ++j) {
        const Lanes limb_j = limb(n, j);
#pragma GCC unroll 16
        for (int k = K - 1 - j; k < K; ++k) window[k + j + 1 - K] = high(window[k + j + 1 - K], strip[k], limb_j);
#pragma GCC unroll 16
        for (int k = K - j; k < K; ++k) window[k + j - K] = low(window[k + j - K], strip[k], limb_j);
    }
    for (int j = K; j < radix.limbs; j += K) pass<K, false>(strip, window, n + j, columns + j);
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) columns[radix.limbs + k] = window[k];
}

template <int K>
void reduce_of(const Radix& radix, Lanes* out, Lanes* quotient, Lanes* columns) {
    for (int i = 0; i < radix.limbs; i += K) {
        quotient_strip<K, false>(radix, quotient + i, columns + i, nullptr);
        reduce_strip<K>(radix, columns + i, quotient + i);
    }
    normalise(out, columns + radix.limbs, radix.limbs);
}

template <int K, bool kPair>
void reduce_two(
    const Radix& radix, Lanes* out1, Lanes* quotient1, Lanes* columns1, Lanes* out2, Lanes* columns2) {
    Lanes quotient2[K];
    quotient_strip<K, false>(radix, quotient1, columns1, nullptr);
    int i = 0;
    for (; i < radix.limbs - K; i += K) {
        quotient_strip<K, kPair>(radix, quotient2, columns2 + i, quotient1 + i);
        reduce_strip<K>(radix, columns1 + i, quotient1 + i);
        quotient_strip<K, false>(radix, quotient1 + i + K, columns1 + i + K, nullptr);
        reduce_strip<K>(radix, columns2 + i, quotient2);
    }
    quotient_strip<K, kPair>(radix, quotient2, columns2 + i, quotient1 + i);
    reduce_strip<K>(radix, columns1 + i, quotient1 + i);
    normalise(out1, columns1 + radix.limbs, radix.limbs);
    reduce_strip<K>(radix, columns2 + i, quotient2);
    normalise(out2, columns2 + radix.limbs, radix.limbs);
}

// Calls what<K>() for the radix' strip.
template <class What>
[[gnu::always_inline]] inline void with_strip(int strip, What what) {
    switch (strip) {
        case 6: return what(std::integral_constant<int, 6>());
        case 7: return what(std::integral_constant<int, 7>());
        case 8: return what(std::integral_constant<int, 8>());
        case 9: return what(std::integral_constant<int, 9>());
        default: return what(std::integral_constant<int, 10>());
    }
}

}  // namespace

Shape shape_for(int bits) {
    const int least = (bits + 8 + kLimbBits - 1) / kLimbBits;
    Shape best = {0, 0};
    double best_cost = 0;
    for (int strip = 6; strip <= 10; ++strip) {
        const int limbs = (least + strip - 1) / strip * strip;
        // Strips of fewer than eight limbs wait for their own columns.
        const double cost = static_cast<double>(limbs) * limbs * (strip < 8 ? 8.0 / strip : 1.0 + 0.01 * (10 - strip));
        if (best.limbs == 0 || cost < best_cost) {
            best = {limbs, strip};
            best_cost = cost;
        }
    }
    return best;
}

void product(const Radix& radix, Lanes* columns, const Lanes* x, const Lanes* y) {
    with_strip(radix.strip, [&](auto k) { product_of<decltype(k)::value>(radix.limbs, columns, x, y); });
}

void add_product(const Radix& radix, Lanes* columns, const Lanes* x, const Lanes* y) {
    with_strip(radix.strip, [&](auto k) { add_product_of<decltype(k)::value>(radix.limbs, columns, x, y); });
}

void square(const Radix& radix, Lanes* columns, const Lanes* x) {
    with_strip(radix.strip, [&](auto k) { square_of<decltype(k)::value>(radix.limbs, columns, x); });
}

void reduce(const Radix& radix, Lanes* out, Lanes* quotient, Lanes* columns) {
    with_strip(radix.strip, [&](auto k) { reduce_of<decltype(k)::value>(radix, out, quotient, columns); });
}

void reduce_both(const Radix& radix, Lanes* out1, Lanes* quotient1, Lanes* columns1, Lanes* out2, Lanes* columns2) {
    with_strip(radix.strip, [&](auto k) {
        reduce_two<decltype(k)::value, false>(radix, out1, quotient1, columns1, out2, columns2);
    });
}

void reduce_pair(const Radix& radix, Lanes* out1, Lanes* quotient1, Lanes* low, Lanes* out2, Lanes* high) {
    with_strip(radix.strip, [&](auto k) {
        reduce_two<decltype(k)::value, true>(radix, out1, quotient1, low, out2, high);
    });
}

}  // namespace sonar
