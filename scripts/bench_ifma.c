// How fast this processor's IFMA multipliers are: nanoseconds of one 512-bit vpmadd52luq, first among sixteen that do not
// wait for each other, then in a chain where each waits for the one before. Prints both.
#include <stdio.h>
#include <time.h>

enum { kRounds = 1 << 20, kRuns = 20, kBlock = 16 };

#define TO(k) "vpmadd52luq %%zmm16, %%zmm17, %%zmm" #k "\n\t"
#define FREE TO(0) TO(1) TO(2) TO(3) TO(4) TO(5) TO(6) TO(7) TO(8) TO(9) TO(10) TO(11) TO(12) TO(13) TO(14) TO(15)
#define FOUR TO(0) TO(0) TO(0) TO(0)
#define CHAINED FOUR FOUR FOUR FOUR
#define REGISTERS \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", \
        "xmm13", "xmm14", "xmm15", "xmm16", "xmm17"

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return 1e9 * (double)at.tv_sec + (double)at.tv_nsec;
}

int main(void) {
    double free = 1e300, chained = 1e300;
    for (int run = 0; run < kRuns; ++run) {
        const double start = now();
        for (int round = 0; round < kRounds; ++round) __asm__ volatile(FREE ::: REGISTERS);
        const double middle = now();
        for (int round = 0; round < kRounds; ++round) __asm__ volatile(CHAINED ::: REGISTERS);
        const double end = now();
        if (middle - start < free) free = middle - start;
        if (end - middle < chained) chained = end - middle;
    }
    printf("%.6f %.6f\n", free / kRounds / kBlock, chained / kRounds / kBlock);
    return 0;
}
