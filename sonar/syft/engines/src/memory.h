// Memory of vectors: zero when it is taken, and zeroed when it is given back.
//
// Large blocks are kept for the next operation, up to kKeptBytes in all: fresh pages cost more than some operations do.
#pragma once

#include <cstddef>

namespace sonar {

constexpr size_t kKeptBytes = size_t{32} << 20;

struct Block {
    void* data = nullptr;
    size_t size = 0;  // at least what was asked for
};

// Zeros, aligned to 64 bytes; throws std::bad_alloc.
Block take_block(size_t size);
void give_block(Block block);

}  // namespace sonar
