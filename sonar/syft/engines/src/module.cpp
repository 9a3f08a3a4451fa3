// The Python module `sonar.syft.engines._native`: checks arguments, lets other threads run, and calls api.h.
//
// This file is compiled for any x86-64 processor, and checks this one before it calls into files that are not.
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030b0000
#include <Python.h>

#include <cpuid.h>
#include <unistd.h>

#include <exception>
#include <new>
#include <stdexcept>

#include "api.h"

namespace {

constexpr int kApi = 1;  // grows when a function's arguments or results change, and _API in native_engine.py with it
constexpr int kMaxWorkers = 1024;
const char* const kRing = "sonar.syft.engines._native.Ring";
const char* const kComb = "sonar.syft.engines._native.Comb";

// Why AVX-512 code cannot run here; null where it can.
const char* why_unusable() {
    __builtin_cpu_init();
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_OSXSAVE) == 0) {
        return "the processor or the operating system has no extended registers";
    }
    unsigned low = 0, high = 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    // SSE, AVX, and the three parts of AVX-512's state, kept by the operating system.
    if ((low & 0xe6) != 0xe6) return "the operating system does not keep AVX-512 registers";
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512ifma")) {
        return "the processor lacks AVX512-IFMA";
    }
    return nullptr;
}

bool check_usable() {
    static const char* const reason = why_unusable();
    if (reason == nullptr) return true;
    PyErr_SetString(PyExc_RuntimeError, reason);
    return false;
}

// A contiguous buffer argument, released at the end of the call.
class Buffer {
  public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() {
        if (view_.obj != nullptr) PyBuffer_Release(&view_);
    }
    Py_buffer* view() { return &view_; }
    const uint8_t* data() const { return static_cast<const uint8_t*>(view_.buf); }
    size_t size() const { return static_cast<size_t>(view_.len); }
    // Whether the buffer is `count` numbers of `width` bytes; sets ValueError where not.
    bool holds(const char* name, size_t count, size_t width) const {
        if (width != 0 && count <= SIZE_MAX / width && size() == count * width) return true;
        PyErr_Format(
            PyExc_ValueError, "%s must be %zu numbers of %zu bytes, but there are %zu bytes", name, count, width,
            size());
        return false;
    }
    // How many numbers of `width` bytes the buffer is; false and ValueError where not whole.
    bool count(const char* name, size_t width, size_t* count) const {
        if (width != 0 && size() % width == 0) {
            *count = size() / width;
            return true;
        }
        PyErr_Format(PyExc_ValueError, "%s must be numbers of %zu bytes, but there are %zu bytes", name, width, size());
        return false;
    }

  private:
    Py_buffer view_{};
};

// A new bytes object that is written before anyone else sees it.
class Output {
  public:
    Output(size_t count, size_t width) {
        if (width != 0 && count > static_cast<size_t>(PY_SSIZE_T_MAX) / width) {
            PyErr_NoMemory();
            return;
        }
        object_ = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(count * width));
    }
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;
    ~Output() { Py_XDECREF(object_); }
    explicit operator bool() const { return object_ != nullptr; }
    uint8_t* data() { return reinterpret_cast<uint8_t*>(PyBytes_AsString(object_)); }
    PyObject* release() {
        PyObject* object = object_;
        object_ = nullptr;
        return object;
    }

  private:
    PyObject* object_ = nullptr;
};

// Calls what may wait for the interpreter's lock. Once the interpreter is being finalised, Python up to 3.13 ends other
// threads that want the lock, by pthread_exit, whose unwinding may not be caught nor pass through destructors. Such a
// thread waits here for the process to end instead, as it does from Python 3.14 on.
// `work` may throw nothing itself. The unwinding has no C++ object, so a reference to abi::__forced_unwind would be null.
template <class Work>
auto or_wait_for_exit(Work work) {
    try {
        return work();
    } catch (...) {
        for (;;) pause();
    }
}

// A stretch without the interpreter's lock, in which callbacks take it for a moment.
class Unlocked : public sonar::Watch, public sonar::Inverter {
  public:
    explicit Unlocked(PyObject* progress, PyObject* invert = nullptr)
        : progress_(progress), invert_(invert), state_(PyEval_SaveThread()) {}
    Unlocked(const Unlocked&) = delete;
    Unlocked& operator=(const Unlocked&) = delete;
    ~Unlocked() override {
        or_wait_for_exit([&] { PyEval_RestoreThread(state_); });
    }

    bool go_on(double fraction) override {
        return locked([&] { return PyErr_CheckSignals() == 0 && call_progress(fraction); });
    }

    bool invert(uint8_t* number, size_t width) override {
        return locked([&] { return call_invert(number, width); });
    }

  private:
    // Calls `work` with the lock, which Python's code gives away now and then.
    template <class Work>
    bool locked(Work work) {
        return or_wait_for_exit([&] {
            PyEval_RestoreThread(state_);
            const bool fine = work();
            state_ = PyEval_SaveThread();
            return fine;
        });
    }

    bool call_progress(double fraction) {
        if (progress_ == Py_None) return true;
        PyObject* result = PyObject_CallFunction(progress_, "d", fraction);
        Py_XDECREF(result);
        return result != nullptr;
    }

    bool call_invert(uint8_t* number, size_t width) {
        PyObject* result = PyObject_CallFunction(
            invert_, "y#", reinterpret_cast<const char*>(number), static_cast<Py_ssize_t>(width));
        if (result == nullptr) return false;
        char* bytes = nullptr;
        Py_ssize_t size = 0;
        bool fine = PyBytes_AsStringAndSize(result, &bytes, &size) == 0;
        if (fine && static_cast<size_t>(size) != width) {
            PyErr_Format(PyExc_ValueError, "an inverse must have %zu bytes, but this one has %zd", width, size);
            fine = false;
        }
        for (size_t i = 0; fine && i < width; ++i) number[i] = static_cast<uint8_t>(bytes[i]);
        Py_DECREF(result);
        return fine;
    }

    PyObject* progress_;
    PyObject* invert_;
    PyThreadState* state_;
};

// Calls `work` without the lock; what it throws becomes a Python exception, unless a callback has left one.
template <class Work>
bool unlocked(PyObject* progress, PyObject* invert, Work work) {
    PyObject* type = nullptr;
    const char* message = "";
    std::string text;
    bool fine = false;
    {
        Unlocked callbacks(progress, invert);
        try {
            work(callbacks);
            fine = true;
        } catch (const std::invalid_argument& error) {
            type = PyExc_ValueError;
            text = error.what();
            message = text.c_str();
        } catch (const std::bad_alloc&) {
            type = PyExc_MemoryError;
            message = "not enough memory";
        } catch (const std::exception& error) {
            type = PyExc_RuntimeError;
            text = error.what();
            message = text.c_str();
        }
    }
    if (!fine && !PyErr_Occurred()) PyErr_SetString(type, message);
    return fine;
}

bool check_workers(int workers) {
    if (workers >= 1 && workers <= kMaxWorkers) return true;
    PyErr_Format(PyExc_ValueError, "workers must be 1 to %d, but is %d", kMaxWorkers, workers);
    return false;
}

bool check_callable(const char* name, PyObject* object) {
    if (PyCallable_Check(object)) return true;
    PyErr_Format(PyExc_TypeError, "%s must be callable", name);
    return false;
}

bool check_progress(PyObject* progress) { return progress == Py_None || check_callable("progress", progress); }

template <class Object>
struct Handle {
    std::shared_ptr<const Object> object;
};

template <class Object>
void destroy(PyObject* capsule) {
    delete static_cast<Handle<Object>*>(PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule)));
}

template <class Object>
PyObject* wrap(std::shared_ptr<const Object> object, const char* name) {
    auto* handle = new (std::nothrow) Handle<Object>{std::move(object)};
    if (handle == nullptr) return PyErr_NoMemory();
    PyObject* capsule = PyCapsule_New(handle, name, destroy<Object>);
    if (capsule == nullptr) delete handle;
    return capsule;
}

template <class Object>
std::shared_ptr<const Object> unwrap(PyObject* capsule, const char* name) {
    if (!PyCapsule_IsValid(capsule, name)) {
        PyErr_Format(PyExc_TypeError, "this must be a %s", name);
        return nullptr;
    }
    return static_cast<Handle<Object>*>(PyCapsule_GetPointer(capsule, name))->object;
}

PyObject* unusable(PyObject*, PyObject*) {
    const char* reason = why_unusable();
    if (reason == nullptr) Py_RETURN_NONE;
    return PyUnicode_FromString(reason);
}

PyObject* radix_bits(PyObject*, PyObject* args) {
    int bits = 0;
    if (!check_usable() || !PyArg_ParseTuple(args, "i", &bits)) return nullptr;
    if (bits < 2 || bits > 8192) {
        return PyErr_Format(PyExc_ValueError, "a modulus must have 2 to 8192 bits, but this one has %d", bits);
    }
    return PyLong_FromLong(sonar::radix_bits(bits));
}

PyObject* ring(PyObject*, PyObject* args) {
    Buffer modulus, r_cubed;
    if (!check_usable() || !PyArg_ParseTuple(args, "y*y*", modulus.view(), r_cubed.view())) return nullptr;
    std::shared_ptr<const sonar::Ring> made;
    const bool fine = unlocked(Py_None, nullptr, [&](Unlocked&) {
        made = sonar::make_ring(modulus.data(), modulus.size(), r_cubed.data(), r_cubed.size());
    });
    return fine ? wrap(std::move(made), kRing) : nullptr;
}

PyObject* residue_product(PyObject*, PyObject* args) {
    PyObject* capsule = nullptr;
    Buffer elements;
    int workers = 0;
    if (!check_usable() || !PyArg_ParseTuple(args, "Oy*i", &capsule, elements.view(), &workers)) return nullptr;
    const auto ring = unwrap<sonar::Ring>(capsule, kRing);
    if (!ring || !check_workers(workers)) return nullptr;
    const sonar::Sizes sizes = sonar::sizes_of(*ring);
    size_t count = 0;
    if (!elements.count("elements", sizes.element_bytes, &count)) return nullptr;
    Output out(1, sizes.residue_bytes);
    if (!out) return nullptr;
    uint8_t* to = out.data();
    const bool fine = unlocked(Py_None, nullptr, [&](Unlocked& watch) {
        sonar::residue_product(*ring, to, elements.data(), count, workers, watch);
    });
    return fine ? out.release() : nullptr;
}

PyObject* multiply(PyObject*, PyObject* args) {
    PyObject* capsule = nullptr;
    Buffer left, right;
    int workers = 0;
    if (!check_usable() || !PyArg_ParseTuple(args, "Oy*y*i", &capsule, left.view(), right.view(), &workers)) {
        return nullptr;
    }
    const auto ring = unwrap<sonar::Ring>(capsule, kRing);
    if (!ring || !check_workers(workers)) return nullptr;
    const size_t width = sonar::sizes_of(*ring).element_bytes;
    size_t count = 0;
    if (!left.count("left", width, &count) || !right.holds("right", count, width)) return nullptr;
    Output out(count, width);
    if (!out) return nullptr;
    uint8_t* to = out.data();
    const bool fine = unlocked(Py_None, nullptr, [&](Unlocked& watch) {
        sonar::multiply(*ring, to, left.data(), right.data(), count, workers, watch);
    });
    return fine ? out.release() : nullptr;
}

PyObject* add_plaintexts(PyObject*, PyObject* args) {
    PyObject* capsule = nullptr;
    Buffer elements, plaintexts;
    int workers = 0;
    if (!check_usable() || !PyArg_ParseTuple(args, "Oy*y*i", &capsule, elements.view(), plaintexts.view(), &workers)) {
        return nullptr;
    }
    const auto ring = unwrap<sonar::Ring>(capsule, kRing);
    if (!ring || !check_workers(workers)) return nullptr;
    const sonar::Sizes sizes = sonar::sizes_of(*ring);
    size_t count = 0;
    if (!elements.count("elements", sizes.element_bytes, &count) ||
        !plaintexts.holds("plaintexts", count, sizes.residue_bytes)) {
        return nullptr;
    }
    Output out(count, sizes.element_bytes);
    if (!out) return nullptr;
    uint8_t* to = out.data();
    const bool fine = unlocked(Py_None, nullptr, [&](Unlocked& watch) {
        sonar::add_plaintexts(*ring, to, elements.data(), plaintexts.data(), count, workers, watch);
    });
    return fine ? out.release() : nullptr;
}

PyObject* comb(PyObject*, PyObject* args) {
    PyObject* capsule = nullptr;
    PyObject* invert = nullptr;
    Buffer base;
    int exponent_bytes = 0;
    int workers = 0;
    if (!check_usable() ||
        !PyArg_ParseTuple(args, "Oy*iOi", &capsule, base.view(), &exponent_bytes, &invert, &workers)) {
        return nullptr;
    }
    const auto ring = unwrap<sonar::Ring>(capsule, kRing);
    if (!ring || !check_workers(workers) || !check_callable("invert", invert)) return nullptr;
    if (!base.holds("base", 1, sonar::sizes_of(*ring).element_bytes)) return nullptr;
    if (exponent_bytes < 1 || exponent_bytes > 8192) {
        return PyErr_Format(PyExc_ValueError, "exponents must have 1 to 8192 bytes, but have %d", exponent_bytes);
    }
    std::shared_ptr<const sonar::Comb> made;
    const bool fine = unlocked(Py_None, invert, [&](Unlocked& callbacks) {
        made = sonar::make_comb(ring, base.data(), exponent_bytes, workers, callbacks, callbacks);
    });
    return fine ? wrap(std::move(made), kComb) : nullptr;
}

PyObject* comb_bytes(PyObject*, PyObject* capsule) {
    const auto comb = unwrap<sonar::Comb>(capsule, kComb);
    return comb ? PyLong_FromSize_t(sonar::table_bytes(*comb)) : nullptr;
}

PyObject* comb_powers(PyObject*, PyObject* args) {
    PyObject* capsule = nullptr;
    PyObject* progress = nullptr;
    Buffer exponents;
    int workers = 0;
    if (!check_usable() || !PyArg_ParseTuple(args, "Oy*iO", &capsule, exponents.view(), &workers, &progress)) {
        return nullptr;
    }
    const auto comb = unwrap<sonar::Comb>(capsule, kComb);
    if (!comb || !check_workers(workers) || !check_progress(progress)) return nullptr;
    const sonar::Sizes sizes = sonar::sizes_of(*comb);
    size_t count = 0;
    if (!exponents.count("exponents", sizes.residue_bytes, &count)) return nullptr;
    Output out(count, sizes.element_bytes);
    if (!out) return nullptr;
    uint8_t* to = out.data();
    const bool fine = unlocked(progress, nullptr, [&](Unlocked& watch) {
        sonar::comb_powers(*comb, to, exponents.data(), count, workers, watch);
    });
    return fine ? out.release() : nullptr;
}

PyObject* linear_map(PyObject*, PyObject* args) {
    PyObject* capsule = nullptr;
    PyObject* invert = nullptr;
    PyObject* progress = nullptr;
    Buffer bases, exponents;
    Py_ssize_t rows = 0;
    int shift = 0;
    int workers = 0;
    if (!check_usable() ||
        !PyArg_ParseTuple(
            args, "Oy*y*niOiO", &capsule, bases.view(), exponents.view(), &rows, &shift, &invert, &workers,
            &progress)) {
        return nullptr;
    }
    const auto ring = unwrap<sonar::Ring>(capsule, kRing);
    if (!ring || !check_workers(workers) || !check_callable("invert", invert) || !check_progress(progress)) {
        return nullptr;
    }
    if (rows < 0) return PyErr_Format(PyExc_ValueError, "rows must not be negative, but are %zd", rows);
    if (shift < 0 || shift > 63) {
        return PyErr_Format(PyExc_ValueError, "the shift must be 0 to 63 bits, but is %d", shift);
    }
    const size_t width = sonar::sizes_of(*ring).element_bytes;
    size_t count = 0;
    if (!bases.count("bases", width, &count)) return nullptr;
    if (count == 0) return PyErr_Format(PyExc_ValueError, "a map needs a base");
    if (count > SIZE_MAX / sizeof(int64_t) || static_cast<size_t>(rows) > SIZE_MAX / sizeof(int64_t) / count) {
        return PyErr_Format(PyExc_ValueError, "a map of %zd rows is too large", rows);
    }
    if (!exponents.holds("exponents", rows * count, sizeof(int64_t))) return nullptr;
    if (reinterpret_cast<uintptr_t>(exponents.data()) % alignof(int64_t) != 0) {
        return PyErr_Format(PyExc_ValueError, "exponents must be aligned to 8 bytes");
    }
    Output out(rows, width);
    if (!out) return nullptr;
    uint8_t* to = out.data();
    const bool fine = unlocked(progress, invert, [&](Unlocked& callbacks) {
        sonar::linear_map(
            *ring, to, bases.data(), count, reinterpret_cast<const int64_t*>(exponents.data()), rows, shift, workers,
            callbacks, callbacks);
    });
    return fine ? out.release() : nullptr;
}

PyObject* weighted_products(PyObject*, PyObject* args) {
    PyObject* capsule = nullptr;
    Buffer factors, steps;
    Py_ssize_t factor_count = 0;
    int workers = 0;
    if (!check_usable() ||
        !PyArg_ParseTuple(args, "Oy*ny*i", &capsule, factors.view(), &factor_count, steps.view(), &workers)) {
        return nullptr;
    }
    const auto ring = unwrap<sonar::Ring>(capsule, kRing);
    if (!ring || !check_workers(workers)) return nullptr;
    const size_t width = sonar::sizes_of(*ring).element_bytes;
    size_t total = 0;
    size_t step_count = 0;
    if (!factors.count("factors", width, &total) || !steps.count("steps", sizeof(sonar::Step), &step_count)) {
        return nullptr;
    }
    if (factor_count < 1 || total % factor_count != 0) {
        return PyErr_Format(
            PyExc_ValueError, "%zu elements cannot be the same number for each of %zd factors", total, factor_count);
    }
    if (reinterpret_cast<uintptr_t>(steps.data()) % alignof(sonar::Step) != 0) {
        return PyErr_Format(PyExc_ValueError, "steps must be aligned to 4 bytes");
    }
    const size_t count = total / factor_count;
    Output out(count, width);
    if (!out) return nullptr;
    uint8_t* to = out.data();
    const bool fine = unlocked(Py_None, nullptr, [&](Unlocked& watch) {
        sonar::weighted_products(
            *ring, to, factors.data(), factor_count, count, reinterpret_cast<const sonar::Step*>(steps.data()),
            step_count, workers, watch);
    });
    return fine ? out.release() : nullptr;
}

PyObject* decrypt(PyObject*, PyObject* args) {
    PyObject* capsule_p = nullptr;
    PyObject* capsule_q = nullptr;
    PyObject* progress = nullptr;
    Buffer inverse_p, inverse_q, ciphertexts;
    Py_ssize_t width = 0;
    int workers = 0;
    if (!check_usable() ||
        !PyArg_ParseTuple(
            args, "OOy*y*y*niO", &capsule_p, &capsule_q, inverse_p.view(), inverse_q.view(), ciphertexts.view(),
            &width, &workers, &progress)) {
        return nullptr;
    }
    const auto ring_p = unwrap<sonar::Ring>(capsule_p, kRing);
    const auto ring_q = ring_p ? unwrap<sonar::Ring>(capsule_q, kRing) : nullptr;
    if (!ring_q || !check_workers(workers) || !check_progress(progress)) return nullptr;
    const size_t bytes_p = sonar::sizes_of(*ring_p).residue_bytes;
    const size_t bytes_q = sonar::sizes_of(*ring_q).residue_bytes;
    if (!inverse_p.holds("inverse_p", 1, bytes_p) || !inverse_q.holds("inverse_q", 1, bytes_q)) return nullptr;
    if (width < 1 || static_cast<size_t>(width) > 2 * (bytes_p + bytes_q)) {
        return PyErr_Format(
            PyExc_ValueError, "ciphertexts must have 1 to %zu bytes, but have %zd", 2 * (bytes_p + bytes_q), width);
    }
    size_t count = 0;
    if (!ciphertexts.count("ciphertexts", width, &count)) return nullptr;
    Output out(count, bytes_p + bytes_q);
    if (!out) return nullptr;
    uint8_t* to = out.data();
    const bool fine = unlocked(progress, nullptr, [&](Unlocked& watch) {
        sonar::decrypt(
            {*ring_p, inverse_p.data()}, {*ring_q, inverse_q.data()}, to, bytes_p + bytes_q, ciphertexts.data(), width,
            count, workers, watch);
    });
    return fine ? out.release() : nullptr;
}

PyMethodDef kMethods[] = {
    {"unusable", unusable, METH_NOARGS, "Why this processor cannot run the rest, or None."},
    {"radix_bits", radix_bits, METH_VARARGS, "The bits of R for a modulus of so many bits."},
    {"ring", ring, METH_VARARGS, "The ring of a modulus n, given R^3 mod n^2."},
    {"residue_product", residue_product, METH_VARARGS, "A residue coprime to n if and only if all elements are."},
    {"multiply", multiply, METH_VARARGS, "Products of pairs."},
    {"add_plaintexts", add_plaintexts, METH_VARARGS, "Elements times (1 + n)^plaintexts."},
    {"comb", comb, METH_VARARGS, "Tables for powers of one base."},
    {"comb_bytes", comb_bytes, METH_O, "The memory of a comb's tables."},
    {"comb_powers", comb_powers, METH_VARARGS, "Powers of a comb's base."},
    {"linear_map", linear_map, METH_VARARGS, "For each row the product of all bases to its exponents."},
    {"weighted_products", weighted_products, METH_VARARGS, "Products of factors to public exponents, in steps."},
    {"decrypt", decrypt, METH_VARARGS, "Plaintexts, by the Chinese remainder theorem."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef kModule = {
    PyModuleDef_HEAD_INIT, "_native", "Arithmetic in Z_(n^2) with AVX512-IFMA, eight numbers at a time.",
    0, kMethods, nullptr, nullptr, nullptr, nullptr,
};

}  // namespace

PyMODINIT_FUNC PyInit__native() {
    PyObject* module = PyModule_Create(&kModule);
    if (module != nullptr && PyModule_AddIntConstant(module, "API", kApi) != 0) {
        Py_DECREF(module);
        return nullptr;
    }
    return module;
}
