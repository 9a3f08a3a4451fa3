// The ring Z_(n^2) in n-adic Montgomery form: x + y n stands for the element (x + y n) / R, R = 2^(52 L).
//
//   (x1 + y1 n)(x2 + y2 n) = x1 x2 + (x1 y2 + x2 y1) n mod n^2. REDC of x1 x2 finds x1 x2 + m n = x R, so that
//   x1 x2 / R = x - (m / R) n, and the high part is REDC(x1 y2 + x2 y1 - m): five times L^2 limb products in all, where
//   one multiplication and one reduction mod n^2 would take eight.
//
// A product of numbers below c n comes out below (1 + 2 c^2 / 256) n, since R >= 256 n; so sums of a few products need
// no reduction, and only results that leave the ring are made canonical.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"

namespace sonar {

// An element in eight lanes: 2 L vectors, the L limbs of x and then those of y.
using Element = Lanes*;
using ConstElement = const Lanes*;

class Ring {
  public:
    // The odd modulus n and R^3 mod n^2 as little-endian bytes; throws std::invalid_argument for others.
    Ring(const uint8_t* modulus, size_t width, const uint8_t* r_cubed, size_t r_cubed_width);
    ~Ring();
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    const Radix& radix() const { return radix_; }
    int limbs() const { return radix_.limbs; }
    int bits() const { return bits_; }
    size_t residue_bytes() const { return (static_cast<size_t>(bits_) + 7) / 8; }
    size_t element_bytes() const { return (static_cast<size_t>(bits_) * 2 + 7) / 8; }
    // Powers of R, the numbers themselves: r(1) stands for one.
    ConstElement r(int power) const { return powers_.data() + static_cast<size_t>(power - 1) * 2 * limbs(); }
    // n in every lane.
    const Lanes* modulus() const { return modulus_lanes_.data(); }

  private:
    int bits_ = 0;
    Radix radix_{};
    std::vector<uint64_t> modulus_;
    Vectors modulus_lanes_;
    Vectors powers_;
};

// Bits of the number in little-endian bytes.
int bit_length(const uint8_t* bytes, size_t width);

// The arithmetic of a ring for one thread, with the memory that it needs in between. Arguments may overlap with results.
class Arithmetic {
  public:
    explicit Arithmetic(const Ring& ring);

    const Ring& ring() const { return ring_; }
    int limbs() const { return radix_.limbs; }

    // Montgomery products in Z_(n^2): five, four and three and a half times L^2 limb products.
    void multiply(Element out, ConstElement x, ConstElement y);
    void multiply_by_residue(Element out, ConstElement x, const Lanes* residue);
    void square(Element out, ConstElement x);

    // Montgomery products in Z_n: x y / R mod n, below 2 n.
    void multiply_residues(Lanes* out, const Lanes* x, const Lanes* y);

    // From a number c < n^2 (2 L limbs) to the element that is c / R as a number: one multiplication by r(3) away from
    // standing for c.
    void divide(Element out, const Lanes* number);
    // What an element stands for, as a number in n-adic form: the element / R.
    void divide_element(Element out, ConstElement element);
    // REDC of a number of 2 L limbs below n R.
    void reduce_number(Lanes* out, const Lanes* number);
    // c in Montgomery form.
    void enter(Element out, const Lanes* number);
    // The number c < n^2 that an element stands for: 2 L limbs.
    void leave(Lanes* number, ConstElement element);
    // The number x + y n mod n^2 itself, for x and y below 2 n - 1.
    void join(Lanes* number, ConstElement pair);
    // Takes n away where that leaves no negative number; says in which lanes.
    __mmask8 subtract_modulus(Lanes* number);

    // Eight numbers of `width` bytes, `count` <= 8 of them from memory and the others one.
    void load(Lanes* number, int limbs, const uint8_t* bytes, size_t width, size_t count) const;
    void store(uint8_t* bytes, size_t width, size_t count, const Lanes* number, int limbs) const;

    // Scratch for those who call kernels themselves: twice 2 L columns, L limbs, and
    // 2 L vectors that products use.
    Lanes* columns() { return columns1_.data(); }
    Lanes* more_columns() { return columns2_.data(); }
    Lanes* quotient() { return quotient_.data(); }
    Lanes* scratch() { return scratch_.data(); }

  private:
    const Ring& ring_;
    const Radix& radix_;
    Vectors columns1_;
    Vectors columns2_;
    Vectors quotient_;
    Vectors spare_;
    Vectors scratch_;
};

}  // namespace sonar
