// Kernels: products and Montgomery reductions (Montgomery 1985) of numbers in lanes, in columns of 52-bit limbs.
//
// A product of L by L limbs is done in strips of K limbs: K limbs of one factor and a window of K columns stay in
// registers while the limbs of the other factor pass by, so that a limb that is loaded serves 2 K multiplications.
// Columns collect at most 6 L products below 2^52 each, which fit in 64 bits for every L that is allowed.
#pragma once

#include "lanes.h"

namespace sonar {

constexpr int kMaxBits = 8192;  // of a modulus
constexpr int kMaxLimbs = 160;  // for kMaxBits, see shape_for; 6 L 2^52 < 2^63 would allow twice as many

// A modulus as the kernels need it. R = 2^(52 L).
struct Radix {
    int limbs;                 // L, a multiple of `strip`
    int strip;                 // K
    const uint64_t* modulus;   // L normal limbs
    uint64_t negated_inverse;  // -1 / modulus mod 2^52
};

// The number of limbs, and their strips, for moduli of so many bits: L 52 >= bits + 8.
struct Shape {
    int limbs;
    int strip;
};
Shape shape_for(int bits);

// Columns [0, 2 L) = x y. `scratch`, here and below, is 2 L vectors.
void product(const Radix& radix, Lanes* columns, const Lanes* x, const Lanes* y, Lanes* scratch);
// Columns [0, 2 L) = x1 y1 + x2 y2.
void sum_of_products(
    const Radix& radix, Lanes* columns, const Lanes* x1, const Lanes* y1, const Lanes* x2, const Lanes* y2,
    Lanes* scratch);
// Columns [0, 2 L) = x x, given 2 x < R.
void square(const Radix& radix, Lanes* columns, const Lanes* x, const Lanes* doubled);

// REDC: out = (columns + m modulus) / R in normal limbs, for the m < R that makes this whole; m goes to `quotient`.
// The value of the columns must be above -R. Spoils the columns.
void reduce(const Radix& radix, Lanes* out, Lanes* quotient, Lanes* columns);
// Two reductions at once, which hide each other's latency; gives the limbs of the first m.
void reduce_both(const Radix& radix, Lanes* out1, Lanes* quotient1, Lanes* columns1, Lanes* out2, Lanes* columns2);
// Low and high part of an element in n-adic form: low is reduced with quotient m, and m is taken off high's columns
// before these are reduced, since low / R = out - (m / R) n.
void reduce_pair(const Radix& radix, Lanes* out1, Lanes* quotient1, Lanes* low, Lanes* out2, Lanes* high);

}  // namespace sonar
