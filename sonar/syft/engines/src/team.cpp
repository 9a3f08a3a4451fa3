#include "team.h"

#include <algorithm>
#include <system_error>

namespace sonar {
namespace {

constexpr double kAlmostAll = 0.99;  // until the operation has returned

}  // namespace

Team::Team(int workers, Watch& watch, double work)
    : workers_(workers), watch_(watch), work_(work), looked_(std::chrono::steady_clock::now()) {}

Team::~Team() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        quit_ = true;
    }
    begin_.notify_all();
    for (std::thread& helper : helpers_) helper.join();
}

void Team::each(size_t count, const Task& task) {
    if (count == 0) return;
    const size_t wanted = count < static_cast<size_t>(workers_) ? count : static_cast<size_t>(workers_);
    next_ = 0;
    bool shared = false;
    if (wanted > 1) {
        // A new helper waits for a round after those that it has seen, so it must be told of this one.
        const std::lock_guard<std::mutex> lock(mutex_);
        while (helpers_.size() + 1 < wanted) {
            try {
                helpers_.emplace_back(&Team::help, this, static_cast<int>(helpers_.size()) + 1);
            } catch (const std::system_error&) {
                break;  // No more threads to be had: fewer do the work.
            }
        }
        task_ = &task;
        count_ = count;
        busy_ = helpers_.size();
        ++round_;
        shared = true;
    }
    if (shared) begin_.notify_all();
    run(task, count, 0, true);
    if (shared) {
        std::unique_lock<std::mutex> lock(mutex_);
        while (!end_.wait_for(lock, kLookEvery, [this] { return busy_ == 0; })) {
            lock.unlock();
            try {
                look();
            } catch (...) {
                fail(std::current_exception());
            }
            lock.lock();
        }
        task_ = nullptr;
    }
    if (error_) std::rethrow_exception(error_);
}

void Team::done(double work) {
    double before = worked_.load();
    while (!worked_.compare_exchange_weak(before, before + work)) {
    }
}

void Team::help(int member) {
    size_t seen = 0;
    for (;;) {
        const Task* task = nullptr;
        size_t count = 0;
        {
            std::unique_lock<std::mutex> lock(mutex_);
            begin_.wait(lock, [&] { return quit_ || round_ != seen; });
            if (quit_) return;
            seen = round_;
            task = task_;
            count = count_;
        }
        run(*task, count, member, false);
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            --busy_;
        }
        end_.notify_one();
    }
}

void Team::run(const Task& task, size_t count, int member, bool watched) {
    try {
        while (!stop_) {
            const size_t index = next_++;
            if (index >= count) return;
            task(index, member);
            if (watched) look_now_and_then();
        }
    } catch (...) {
        fail(std::current_exception());
    }
}

void Team::look() {
    const double fraction = work_ > 0 ? worked_.load() / work_ : 0;
    const bool go_on = stop_ || watch_.go_on(std::min(fraction, kAlmostAll));
    looked_ = std::chrono::steady_clock::now();
    if (!go_on) throw Stopped();
}

void Team::fail(std::exception_ptr error) {
    stop_ = true;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!error_) error_ = error;
}

}  // namespace sonar
