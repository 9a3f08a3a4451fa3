#include "ring.h"

#include <stdexcept>

namespace sonar {

int bit_length(const uint8_t* bytes, size_t width) {
    while (width > 0 && bytes[width - 1] == 0) --width;
    if (width == 0) return 0;
    return static_cast<int>(width) * 8 - (__builtin_clz(bytes[width - 1]) - 24);
}

Ring::Ring(const uint8_t* modulus, size_t width, const uint8_t* r_cubed, size_t r_cubed_width) {
    if (width > kMaxBits / 8 || r_cubed_width > kMaxBits / 4) throw std::invalid_argument("the modulus is too long");
    bits_ = bit_length(modulus, width);
    if (bits_ < 2 || (modulus[0] & 1) == 0) throw std::invalid_argument("a modulus must be odd and above 1");
    if (bit_length(r_cubed, r_cubed_width) > 2 * bits_) throw std::invalid_argument("R^3 mod n^2 must be below n^2");
    const Shape shape = shape_for(bits_);
    const int limbs = shape.limbs;
    if (limbs > kMaxLimbs) throw std::invalid_argument("the modulus is too long");
    modulus_lanes_ = Vectors(limbs);
    modulus_.resize(limbs);
    for (int lane = 0; lane < kLanes; ++lane) load_lane(modulus_lanes_.data(), lane, limbs, modulus, width);
    for (int i = 0; i < limbs; ++i) modulus_[i] = reinterpret_cast<const uint64_t*>(&modulus_lanes_[i])[0];
    // Newton: every step doubles the bits that are right.
    uint64_t inverse = 1;
    for (int i = 0; i < 6; ++i) inverse *= 2 - modulus_[0] * inverse;
    radix_ = {limbs, shape.strip, modulus_.data(), (0 - inverse) & kLimbMask};

    powers_ = Vectors(static_cast<size_t>(4) * 2 * limbs);
    const auto power = [&](int k) { return powers_.data() + static_cast<size_t>(k - 1) * 2 * limbs; };
    Vectors number(static_cast<size_t>(2) * limbs);
    for (int lane = 0; lane < kLanes; ++lane) load_lane(number.data(), lane, 2 * limbs, r_cubed, r_cubed_width);
    Arithmetic arithmetic(*this);
    arithmetic.divide(power(2), number.data());
    arithmetic.multiply(power(3), power(2), power(2));
    arithmetic.multiply(power(4), power(3), power(2));
    arithmetic.divide_element(power(1), power(2));
}

Ring::~Ring() {
    explicit_bzero(modulus_.data(), modulus_.size() * sizeof(uint64_t));
    explicit_bzero(&radix_, sizeof(radix_));
    explicit_bzero(&bits_, sizeof(bits_));
}

Arithmetic::Arithmetic(const Ring& ring)
    : ring_(ring),
      radix_(ring.radix()),
      columns1_(static_cast<size_t>(2) * radix_.limbs),
      columns2_(static_cast<size_t>(2) * radix_.limbs),
      quotient_(radix_.limbs),
      spare_(radix_.limbs),
      scratch_(static_cast<size_t>(2) * radix_.limbs) {}

void Arithmetic::multiply(Element out, ConstElement x, ConstElement y) {
    const int l = radix_.limbs;
    product(radix_, columns1_.data(), x, y, scratch_.data());
    sum_of_products(radix_, columns2_.data(), x, y + l, x + l, y, scratch_.data());
    reduce_pair(radix_, out, quotient_.data(), columns1_.data(), out + l, columns2_.data());
}

void Arithmetic::multiply_by_residue(Element out, ConstElement x, const Lanes* residue) {
    const int l = radix_.limbs;
    product(radix_, columns1_.data(), x, residue, scratch_.data());
    product(radix_, columns2_.data(), x + l, residue, scratch_.data());
    reduce_pair(radix_, out, quotient_.data(), columns1_.data(), out + l, columns2_.data());
}

void Arithmetic::square(Element out, ConstElement x) {
    const int l = radix_.limbs;
    const Lanes mask = broadcast(kLimbMask);
    // 2 x, in normal limbs: (2 x) y is the high part.
    Lanes carry = _mm512_setzero_si512();
    for (int i = 0; i < l; ++i) {
        const Lanes limb = x[i];
        spare_[i] = _mm512_and_si512(_mm512_or_si512(_mm512_slli_epi64(limb, 1), carry), mask);
        carry = _mm512_srli_epi64(limb, kLimbBits - 1);
    }
    sonar::square(radix_, columns1_.data(), x, spare_.data());
    product(radix_, columns2_.data(), x + l, spare_.data(), scratch_.data());
    reduce_pair(radix_, out, quotient_.data(), columns1_.data(), out + l, columns2_.data());
}

void Arithmetic::multiply_residues(Lanes* out, const Lanes* x, const Lanes* y) {
    product(radix_, columns1_.data(), x, y, scratch_.data());
    reduce(radix_, out, quotient_.data(), columns1_.data());
}

void Arithmetic::divide(Element out, const Lanes* number) {
    const int l = radix_.limbs;
    for (int i = 0; i < 2 * l; ++i) {
        columns1_[i] = number[i];
        columns2_[i] = _mm512_setzero_si512();
    }
    reduce_pair(radix_, out, quotient_.data(), columns1_.data(), out + l, columns2_.data());
}

void Arithmetic::divide_element(Element out, ConstElement element) {
    const int l = radix_.limbs;
    for (int i = 0; i < l; ++i) {
        columns1_[i] = element[i];
        columns2_[i] = element[l + i];
        columns1_[l + i] = columns2_[l + i] = _mm512_setzero_si512();
    }
    reduce_pair(radix_, out, quotient_.data(), columns1_.data(), out + l, columns2_.data());
}

void Arithmetic::reduce_number(Lanes* out, const Lanes* number) {
    for (int i = 0; i < 2 * radix_.limbs; ++i) columns1_[i] = number[i];
    reduce(radix_, out, quotient_.data(), columns1_.data());
}

void Arithmetic::enter(Element out, const Lanes* number) {
    divide(out, number);
    multiply(out, out, ring_.r(3));
}

void Arithmetic::leave(Lanes* number, ConstElement element) {
    Vectors pair(static_cast<size_t>(2) * radix_.limbs);
    divide_element(pair.data(), element);
    join(number, pair.data());
}

void Arithmetic::join(Lanes* number, ConstElement pair) {
    const int l = radix_.limbs;
    Vectors low(l);
    for (int i = 0; i < l; ++i) {
        low[i] = pair[i];
        spare_[i] = pair[l + i];
    }
    // Taking n off the low part adds one to the high part.
    const __mmask8 over = subtract_modulus(low.data());
    spare_[0] = _mm512_mask_add_epi64(spare_[0], over, spare_[0], broadcast(1));
    normalise(spare_.data(), spare_.data(), l);
    subtract_modulus(spare_.data());
    product(radix_, columns1_.data(), spare_.data(), ring_.modulus(), scratch_.data());
    for (int i = 0; i < l; ++i) columns1_[i] = _mm512_add_epi64(columns1_[i], low[i]);
    normalise(number, columns1_.data(), 2 * l);
}

__mmask8 Arithmetic::subtract_modulus(Lanes* number) {
    const int l = radix_.limbs;
    const Lanes mask = broadcast(kLimbMask);
    Lanes borrow = _mm512_setzero_si512();
    for (int i = 0; i < l; ++i) {
        const Lanes limb = _mm512_add_epi64(_mm512_sub_epi64(number[i], ring_.modulus()[i]), borrow);
        quotient_[i] = _mm512_and_si512(limb, mask);
        borrow = _mm512_srai_epi64(limb, kLimbBits);
    }
    const __mmask8 fits = _mm512_cmpeq_epi64_mask(borrow, _mm512_setzero_si512());
    for (int i = 0; i < l; ++i) number[i] = _mm512_mask_mov_epi64(number[i], fits, quotient_[i]);
    return fits;
}

void Arithmetic::load(Lanes* number, int limbs, const uint8_t* bytes, size_t width, size_t count) const {
    static const uint8_t one[1] = {1};
    for (size_t lane = 0; lane < kLanes; ++lane) {
        const bool given = lane < count;
        load_lane(number, static_cast<int>(lane), limbs, given ? bytes + lane * width : one, given ? width : 1);
    }
}

void Arithmetic::store(uint8_t* bytes, size_t width, size_t count, const Lanes* number, int limbs) const {
    for (size_t lane = 0; lane < count; ++lane) {
        store_lane(bytes + lane * width, width, number, static_cast<int>(lane), limbs);
    }
}

}  // namespace sonar
