// Lanes and limbs: eight big numbers side by side, one in each 64-bit lane of a vector, 52 bits (a limb) at a time.
//
// A number of L limbs in eight lanes is an array of L vectors, the least significant limb first. "Normal" limbs are
// 0 <= limb < 2^52. Columns, sums of products before their carries are done, use all 64 bits and may be negative.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

#include "memory.h"

namespace sonar {

using Lanes = __m512i;

constexpr int kLanes = 8;
constexpr int kLimbBits = 52;
constexpr uint64_t kLimbMask = (uint64_t{1} << kLimbBits) - 1;

// An array of vectors, zero at first and zeroed before its memory is given back: most of what it holds is secret or
// derived from secrets, and wiping the rest costs nothing that can be measured.
class Vectors {
  public:
    Vectors() = default;
    explicit Vectors(size_t count) : count_(count) {
        if (count > SIZE_MAX / sizeof(Lanes)) throw std::bad_alloc();
        if (count > 0) block_ = take_block(count * sizeof(Lanes));
    }
    Vectors(const Vectors&) = delete;
    Vectors& operator=(const Vectors&) = delete;
    Vectors(Vectors&& other) noexcept { swap(other); }
    Vectors& operator=(Vectors&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Vectors() {
        if (block_.data != nullptr) give_block(block_);
    }

    Lanes* data() { return static_cast<Lanes*>(block_.data); }
    const Lanes* data() const { return static_cast<const Lanes*>(block_.data); }
    Lanes& operator[](size_t index) { return data()[index]; }
    const Lanes& operator[](size_t index) const { return data()[index]; }
    size_t size() const { return count_; }

  private:
    void swap(Vectors& other) noexcept {
        std::swap(block_, other.block_);
        std::swap(count_, other.count_);
    }

    Block block_;
    size_t count_ = 0;
};

inline Lanes broadcast(uint64_t limb) { return _mm512_set1_epi64(static_cast<long long>(limb)); }

// Normal limbs of a sum of columns whose value is not negative and fits.
inline void normalise(Lanes* out, const Lanes* columns, int limbs) {
    const Lanes mask = broadcast(kLimbMask);
    Lanes carry = _mm512_setzero_si512();
    for (int i = 0; i < limbs; ++i) {
        const Lanes column = _mm512_add_epi64(columns[i], carry);
        out[i] = _mm512_and_si512(column, mask);
        carry = _mm512_srai_epi64(column, kLimbBits);
    }
}

// One lane of `out` = the number in `width` little-endian bytes. What does not fit in `limbs` is left out.
inline void load_lane(Lanes* out, int lane, int limbs, const uint8_t* bytes, size_t width) {
    auto* words = reinterpret_cast<uint64_t*>(out) + lane;
    for (int i = 0; i < limbs; ++i) {
        // A limb is six and a half bytes.
        const size_t offset = static_cast<size_t>(i) * 13 / 2;
        uint64_t word = 0;
        if (offset + 8 <= width) {
            std::memcpy(&word, bytes + offset, 8);
        } else if (offset < width) {
            std::memcpy(&word, bytes + offset, width - offset);
        }
        words[i * kLanes] = (word >> (i % 2 * 4)) & kLimbMask;
    }
}

// `width` little-endian bytes of the number with normal limbs in one lane; bytes beyond its limbs are zero.
inline void store_lane(uint8_t* bytes, size_t width, const Lanes* number, int lane, int limbs) {
    const auto* words = reinterpret_cast<const uint64_t*>(number) + lane;
    std::memset(bytes, 0, width);
    for (int i = 0; i < limbs; i += 2) {
        // Two limbs are thirteen bytes.
        const uint64_t low = words[i * kLanes];
        const uint64_t high = i + 1 < limbs ? words[(i + 1) * kLanes] : 0;
        const uint64_t pair[2] = {low | high << kLimbBits, high >> (64 - kLimbBits)};
        const size_t offset = static_cast<size_t>(i) / 2 * 13;
        if (offset >= width) break;
        std::memcpy(bytes + offset, pair, width - offset < 13 ? width - offset : 13);
    }
}

// Transposes 8 x 8 words: word j of vector i becomes word i of vector j.
inline void transpose(Lanes v[8]) {
    Lanes pairs[8];
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = _mm512_unpacklo_epi64(v[i], v[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi64(v[i], v[i + 1]);
    }
    Lanes quads[8];
    for (int i = 0; i < 8; i += 4) {
        for (int j = 0; j < 2; ++j) {
            quads[i + j] = _mm512_shuffle_i64x2(pairs[i + j], pairs[i + j + 2], 0x88);
            quads[i + j + 2] = _mm512_shuffle_i64x2(pairs[i + j], pairs[i + j + 2], 0xdd);
        }
    }
    for (int j = 0; j < 4; ++j) {
        v[j] = _mm512_shuffle_i64x2(quads[j], quads[j + 4], 0x88);
        v[j + 4] = _mm512_shuffle_i64x2(quads[j], quads[j + 4], 0xdd);
    }
}

}  // namespace sonar
