#include "memory.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

namespace sonar {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kLargeBytes = size_t{64} << 10;
#ifdef __SANITIZE_ADDRESS__
constexpr int kPlaces = 0;  // The sanitizer is to see all that is given back.
#else
constexpr int kPlaces = 32;
#endif

// Only ever tried, never waited for: so a process that was forked while a thread held it goes on without what is kept.
std::mutex kept_mutex;
Block kept[kPlaces + 1];
size_t kept_bytes = 0;

Block take_kept(size_t size) {
    const std::unique_lock<std::mutex> lock(kept_mutex, std::try_to_lock);
    if (!lock) return {};
    Block* best = nullptr;
    for (int i = 0; i < kPlaces; ++i) {
        if (kept[i].data == nullptr || kept[i].size < size || kept[i].size / 2 > size) continue;
        if (best == nullptr || kept[i].size < best->size) best = &kept[i];
    }
    if (best == nullptr) return {};
    const Block block = *best;
    *best = {};
    kept_bytes -= block.size;
    return block;
}

bool keep(Block block) {
    const std::unique_lock<std::mutex> lock(kept_mutex, std::try_to_lock);
    if (!lock || kept_bytes + block.size > kKeptBytes) return false;
    for (int i = 0; i < kPlaces; ++i) {
        if (kept[i].data != nullptr) continue;
        kept[i] = block;
        kept_bytes += block.size;
        return true;
    }
    return false;
}

}  // namespace

Block take_block(size_t size) {
    if (size >= kLargeBytes) {
        const Block block = take_kept(size);
        if (block.data != nullptr) return block;
    }
    if (size > SIZE_MAX - kAlignment) throw std::bad_alloc();
    const size_t whole = (size + kAlignment - 1) / kAlignment * kAlignment;
    void* data = std::aligned_alloc(kAlignment, whole);
    if (data == nullptr) throw std::bad_alloc();
    std::memset(data, 0, whole);
    return {data, whole};
}

void give_block(Block block) {
    explicit_bzero(block.data, block.size);
    if (block.size < kLargeBytes || !keep(block)) std::free(block.data);
}

}  // namespace sonar
