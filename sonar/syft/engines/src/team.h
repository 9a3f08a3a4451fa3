// Threads for one operation: they start when there is work for them and end with the operation, so that nothing is
// left running between operations.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "api.h"

namespace sonar {

// Thrown in the calling thread where its watch said to stop.
struct Stopped : std::exception {};

// How many of `workers` an operation of so many tasks can use; 1 at least.
inline int useful(int workers, size_t tasks) {
    return tasks < static_cast<size_t>(workers) ? static_cast<int>(tasks > 0 ? tasks : 1) : workers;
}

class Team {
  public:
    // What a helper does for one task; `member` is below workers() and never the same in two threads at a time.
    using Task = std::function<void(size_t task, int member)>;

    // `work` is how much will be reported to done() in all.
    Team(int workers, Watch& watch, double work);
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int workers() const { return workers_; }
    // Calls task(0) .. task(count - 1) in any order, in the calling thread and its helpers, and waits for all. What a
    // task throws is thrown here, and then the others may not have been done.
    void each(size_t count, const Task& task);
    // Tells what has been worked; from any task.
    void done(double work);
    // For the calling thread's work outside of tasks, again and again: looks at the watch when it is time to.
    void look_now_and_then() {
        if (std::chrono::steady_clock::now() - looked_ >= kLookEvery) look();
    }

  private:
    static constexpr auto kLookEvery = std::chrono::milliseconds(100);

    void help(int member);
    void run(const Task& task, size_t count, int member, bool watched);
    void look();
    void fail(std::exception_ptr error);

    const int workers_;
    Watch& watch_;
    const double work_;
    std::atomic<double> worked_{0};
    std::chrono::steady_clock::time_point looked_;
    std::vector<std::thread> helpers_;
    std::atomic<size_t> next_{0};
    std::atomic<bool> stop_{false};

    std::mutex mutex_;  // for all below
    std::condition_variable begin_;
    std::condition_variable end_;
    const Task* task_ = nullptr;
    size_t count_ = 0;
    size_t round_ = 0;
    size_t busy_ = 0;
    bool quit_ = false;
    std::exception_ptr error_;
};

}  // namespace sonar
