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

// Low half plus high half of a number of 2 h limbs: h normal limbs, and the carry out of them as a mask of all bits.
inline Lanes add_halves(Lanes* sum, const Lanes* x, int h) {
    const Lanes mask = broadcast(kLimbMask);
    Lanes carry = _mm512_setzero_si512();
    for (int i = 0; i < h; ++i) {
        const Lanes limb = _mm512_add_epi64(_mm512_add_epi64(x[i], x[h + i]), carry);
        sum[i] = _mm512_and_si512(limb, mask);
        carry = _mm512_srli_epi64(limb, kLimbBits);
    }
    return _mm512_sub_epi64(_mm512_setzero_si512(), carry);
}

// The middle product of Karatsuba (1962), (x0 + x1)(y0 + y1), in columns scratch[2 h, 4 h); what the carries of both sums
// make of it beyond that goes to `top`, whose weight is that of column 2 h of the middle.
template <int K, bool kAdd>
[[gnu::always_inline]] inline void middle_product(int h, Lanes* scratch, const Lanes* x, const Lanes* y, Lanes& top) {
    Lanes* x_sum = scratch;
    Lanes* y_sum = scratch + h;
    Lanes* middle = scratch + 2 * h;
    const Lanes x_carry = add_halves(x_sum, x, h);
    const Lanes y_carry = add_halves(y_sum, y, h);
    if constexpr (kAdd) {
        add_product_of<K>(h, middle, x_sum, y_sum);
    } else {
        product_of<K>(h, middle, x_sum, y_sum);
    }
    for (int i = 0; i < h; ++i) {
        const Lanes both =
            _mm512_add_epi64(_mm512_and_si512(x_sum[i], y_carry), _mm512_and_si512(y_sum[i], x_carry));
        middle[h + i] = _mm512_add_epi64(middle[h + i], both);
    }
    top = _mm512_sub_epi64(top, _mm512_and_si512(x_carry, y_carry));
}

// From x0 y0 in columns[0, 2 h), x1 y1 in columns[2 h, 4 h) and the middle product to the product.
inline void join_halves(int h, Lanes* columns, const Lanes* middle, Lanes top) {
    for (int i = 0; i < h; ++i) {
        const Lanes first = columns[i];
        const Lanes second = columns[h + i];
        const Lanes third = columns[2 * h + i];
        const Lanes fourth = columns[3 * h + i];
        columns[h + i] =
            _mm512_add_epi64(second, _mm512_sub_epi64(_mm512_sub_epi64(middle[i], first), third));
        columns[2 * h + i] =
            _mm512_add_epi64(third, _mm512_sub_epi64(_mm512_sub_epi64(middle[h + i], second), fourth));
    }
    columns[3 * h] = _mm512_add_epi64(columns[3 * h], top);
}

// Karatsuba pays where halves are whole strips and not too short.
constexpr int kKaratsuba = 40;

template <int K>
bool in_halves(int limbs) {
    return limbs >= kKaratsuba && limbs % (2 * K) == 0;
}

template <int K>
void any_product_of(int limbs, Lanes* columns, const Lanes* x, const Lanes* y, Lanes* scratch) {
    if (!in_halves<K>(limbs)) return product_of<K>(limbs, columns, x, y);
    const int h = limbs / 2;
    Lanes top = _mm512_setzero_si512();
    middle_product<K, false>(h, scratch, x, y, top);
    product_of<K>(h, columns, x, y);
    product_of<K>(h, columns + 2 * h, x + h, y + h);
    join_halves(h, columns, scratch + 2 * h, top);
}

template <int K>
void sum_of_products_of(
    int limbs, Lanes* columns, const Lanes* x1, const Lanes* y1, const Lanes* x2, const Lanes* y2, Lanes* scratch) {
    if (!in_halves<K>(limbs)) {
        product_of<K>(limbs, columns, x1, y1);
        add_product_of<K>(limbs, columns, x2, y2);
        return;
    }
    const int h = limbs / 2;
    Lanes top = _mm512_setzero_si512();
    middle_product<K, false>(h, scratch, x1, y1, top);
    middle_product<K, true>(h, scratch, x2, y2, top);
    product_of<K>(h, columns, x1, y1);
    add_product_of<K>(h, columns, x2, y2);
    product_of<K>(h, columns + 2 * h, x1 + h, y1 + h);
    add_product_of<K>(h, columns + 2 * h, x2 + h, y2 + h);
    join_halves(h, columns, scratch + 2 * h, top);
}

// columns[0, L + K) += x[0, K) x[0, L), with every product of two limbs of the strip once, for a strip of a square: `y`
// are the limbs 2 x. These carry bit 51 of limb k into limb k + 1, once too often for the strip's own limb k, which is
// taken off the square of that limb.
template <int K, bool kFirst>
[[gnu::always_inline]] inline void square_strip(Lanes* columns, const Lanes* x, const Lanes* y, int limbs) {
    Lanes strip[K];
    Lanes window[K];
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) {
        strip[k] = x[k];
        window[k] = kFirst ? _mm512_setzero_si512() : columns[k];
    }
    const Lanes zero = _mm512_setzero_si512();
#pragma GCC unroll 16
    for (int j = 0; j < K; ++j) {
        const Lanes limb_j = y[j];
        Lanes next = kFirst || limbs == K ? zero : columns[K + j];
#pragma GCC unroll 16
        for (int k = 0; k < j; ++k) window[(j + k + 1) % K] = high(window[(j + k + 1) % K], strip[k], limb_j);
        const Lanes over = _mm512_and_si512(strip[j], _mm512_srai_epi64(_mm512_slli_epi64(strip[j], 12), 63));
        Lanes& above = j == K - 1 ? next : window[(2 * j + 1) % K];
        above = _mm512_sub_epi64(high(above, strip[j], strip[j]), over);
#pragma GCC unroll 16
        for (int k = 0; k < j; ++k) window[(j + k) % K] = low(window[(j + k) % K], strip[k], limb_j);
        window[2 * j % K] = low(window[2 * j % K], strip[j], strip[j]);
        columns[j] = window[j];
        window[j] = next;
    }
    int j = K;
    for (; j < limbs - K; j += K) pass<K, kFirst>(strip, window, y + j, columns + j);
    if (j < limbs) pass<K, true>(strip, window, y + j, columns + j);
#pragma GCC unroll 16
    for (int k = 0; k < K; ++k) columns[limbs + k] = window[k];
}

template <int K>
void square_of(int limbs, Lanes* columns, const Lanes* x, const Lanes* doubled) {
    square_strip<K, true>(columns, x, doubled, limbs);
    for (int i = K; i < limbs; i += K) square_strip<K, false>(columns + 2 * i, x + i, doubled + i, limbs - i);
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
        const Lanes digit = low(zero, sums[d], inverse);
        quotient[d] = digit;
        // The column becomes a multiple of 2^52 by adding at most 2^52 - 1: its carry is known before the digit is.
        carry = _mm512_srai_epi64(_mm512_add_epi64(sums[d], mask), kLimbBits);
        if (d + 1 < K) {
            sums[d + 1] = _mm512_add_epi64(high(sums[d + 1], digit, limb(n, 0)), low(carry, digit, limb(n, 1)));
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

void product(const Radix& radix, Lanes* columns, const Lanes* x, const Lanes* y, Lanes* scratch) {
    with_strip(radix.strip, [&](auto k) { any_product_of<decltype(k)::value>(radix.limbs, columns, x, y, scratch); });
}

void sum_of_products(
    const Radix& radix, Lanes* columns, const Lanes* x1, const Lanes* y1, const Lanes* x2, const Lanes* y2,
    Lanes* scratch) {
    with_strip(radix.strip, [&](auto k) {
        sum_of_products_of<decltype(k)::value>(radix.limbs, columns, x1, y1, x2, y2, scratch);
    });
}

void square(const Radix& radix, Lanes* columns, const Lanes* x, const Lanes* doubled) {
    with_strip(radix.strip, [&](auto k) { square_of<decltype(k)::value>(radix.limbs, columns, x, doubled); });
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
