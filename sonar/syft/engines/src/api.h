// What the Python binding calls. Numbers are little-endian bytes of a fixed width, one after the other: an element of
// Z_(n^2) takes `element_bytes`, a residue mod n `residue_bytes`. Callers see to it that buffers are as long as that;
// what the numbers in them are can make results wrong, but nothing worse.
//
// Everything but `unusable` executes AVX-512 instructions, so nothing else may be called where that gives a reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace sonar {

class Ring;
class Comb;

// The calling thread's eye on a long operation.
class Watch {
  public:
    virtual ~Watch() = default;
    // Told now and then which part is done; false stops the operation with Stopped.
    virtual bool go_on(double fraction) = 0;
};

// Inversion mod n, which is left to the caller.
class Inverter {
  public:
    virtual ~Inverter() = default;
    // `number` (residue_bytes) becomes its inverse; false, where there is none, stops the operation with Stopped.
    virtual bool invert(uint8_t* number, size_t width) = 0;
};

struct Sizes {
    size_t residue_bytes;
    size_t element_bytes;
};

// The bits 52 L of R for a modulus of so many bits, 2 to 8192.
int radix_bits(int bits);

std::shared_ptr<const Ring> make_ring(
    const uint8_t* modulus, size_t width, const uint8_t* r_cubed, size_t r_cubed_width);
Sizes sizes_of(const Ring& ring);

// A residue that is coprime to n if and only if all elements are.
void residue_product(
    const Ring& ring, uint8_t* out, const uint8_t* elements, size_t count, int workers, Watch& watch);

void multiply(
    const Ring& ring, uint8_t* out, const uint8_t* left, const uint8_t* right, size_t count, int workers,
    Watch& watch);

// elements (1 + n)^plaintexts, with plaintexts as residues.
void add_plaintexts(
    const Ring& ring, uint8_t* out, const uint8_t* elements, const uint8_t* plaintexts, size_t count, int workers,
    Watch& watch);

// Lim and Lee's comb for secret exponents of `exponent_bytes` bytes.
std::shared_ptr<const Comb> make_comb(
    std::shared_ptr<const Ring> ring, const uint8_t* base, size_t exponent_bytes, int workers, Inverter& inverter,
    Watch& watch);
Sizes sizes_of(const Comb& comb);  // element_bytes, and exponent_bytes in the place of residue_bytes
size_t table_bytes(const Comb& comb);
void comb_powers(
    const Comb& comb, uint8_t* out, const uint8_t* exponents, size_t count, int workers, Watch& watch);

// For each of `rows` rows the product of the `count` >= 1 bases to the exponents (rows, count), |e| <= 2^shift <= 2^63.
void linear_map(
    const Ring& ring, uint8_t* out, const uint8_t* bases, size_t count, const int64_t* exponents, size_t rows,
    int shift, int workers, Inverter& inverter, Watch& watch);

// One step of a square-and-multiply that all elements share: multiply by factor^digit at weight 2^position.
struct Step {
    int32_t position;
    int32_t factor;
    int32_t digit;  // odd
};

// Products over j of factors (factor_count, count) [j][i]^e_j, with e_j in steps of falling position.
void weighted_products(
    const Ring& ring, uint8_t* out, const uint8_t* factors, size_t factor_count, size_t count, const Step* steps,
    size_t step_count, int workers, Watch& watch);

// One prime p of a key n = p q as decryption needs it.
struct Prime {
    const Ring& ring;        // of p
    const uint8_t* inverse;  // 1 / q mod p, residue_bytes
};

// The plaintexts, `out_width` bytes each, of ciphertexts of `width` bytes each.
void decrypt(
    const Prime& p, const Prime& q, uint8_t* out, size_t out_width, const uint8_t* ciphertexts, size_t width,
    size_t count, int workers, Watch& watch);

}  // namespace sonar
