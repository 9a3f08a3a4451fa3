"""What `bench_capsule.py` measured: waves of gradients, what follows from them, and all of it as a table."""

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sonar.syft import get_engine

__all__ = ["PARTS", "ROUND", "Report", "Wave", "machine", "markdown", "merged"]

ROUND = 8
"""Gradients of a round."""
PARTS = ("decrypting", "ciphertexts", "judging", "total")


@dataclass
class Wave:
    """One full round of every campaign: seconds on the clock and of processor time, and memory after it in MiB."""

    gradients: int
    seconds: float
    service_cpu: float
    judge_cpu: float
    parts: dict[str, float]
    service_memory: float
    judge_memory: float
    load: dict[str, Any] | None = None


@dataclass
class Report:
    """Everything that was measured."""

    machine: dict[str, Any]
    key_bits: int
    key_seconds: float
    waves: list[Wave] = field(default_factory=list)
    idle: dict[str, Any] = field(default_factory=dict)
    rounds: int = 0
    advanced: int = 0
    problems: list[str] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        """For JSON, with what follows from the waves."""
        quiet, loaded = ([w for w in self.waves if (w.load is not None) == under] for under in (False, True))
        quiet = quiet[1:] or quiet  # the first wave warms up
        return {
            "machine": self.machine,
            "key_bits": self.key_bits,
            "gradients": sum(wave.gradients for wave in self.waves),
            "rounds": self.rounds,
            "advanced": self.advanced,
            "quiet": _throughput(quiet, self.key_seconds),
            "loaded": _throughput(loaded, self.key_seconds),
            "latency": {"idle": self.idle, "judging": merged([w.load for w in loaded if w.load is not None])},
            "memory_mib": [
                {"gradients": total, "service": round(wave.service_memory, 1), "judges": round(wave.judge_memory, 1)}
                for total, wave in zip(np.cumsum([w.gradients for w in self.waves]).tolist(), self.waves, strict=True)
            ],
            "problems": self.problems,
        }


def _throughput(waves: list[Wave], key_seconds: float) -> dict[str, float]:
    """Rates and shares over these waves; nothing where there are none."""
    if not waves:
        return {}
    gradients, seconds = sum(w.gradients for w in waves), sum(w.seconds for w in waves)
    parts = {part: sum(w.parts[part] for w in waves) for part in PARTS}
    cpu = sum(w.service_cpu + w.judge_cpu for w in waves)
    arithmetic = parts["decrypting"] + parts["ciphertexts"] + parts["judging"]
    return {
        "gradients_per_second": gradients / seconds,
        "job_seconds_per_gradient": parts["total"] / gradients,
        "decrypting_per_gradient": parts["decrypting"] / gradients,
        "ciphertexts_per_gradient": parts["ciphertexts"] / gradients,
        "judging_per_gradient": parts["judging"] / gradients,
        "service_cpu_per_gradient": sum(w.service_cpu for w in waves) / gradients,
        "judge_cpu_per_gradient": sum(w.judge_cpu for w in waves) / gradients,
        "key_seconds_per_gradient": key_seconds / ROUND,
        "decrypting_of_jobs": parts["decrypting"] / parts["total"],
        "arithmetic_of_jobs": arithmetic / parts["total"],
        "arithmetic_of_all_cpu": arithmetic / cpu if cpu else 0.0,
    }


def merged(loads: list[dict[str, Any]]) -> dict[str, Any]:
    """Percentiles in milliseconds over all these runs."""
    if not loads:
        return {}
    found: dict[str, list[float]] = {"info": [], "admissions": []}
    for load in loads:
        for path, values in load["latencies"].items():
            found["info" if path == "/v1/info" else "admissions"] += values
    told: dict[str, Any] = {
        name: {"requests": len(values)} | {f"p{p}": float(np.percentile(values, p)) * 1e3 for p in (50, 90, 99, 100)}
        for name, values in found.items()
        if values
    }
    return told | {"generator_late_ms": max(load["late"] for load in loads) * 1e3}


def markdown(report: dict[str, Any]) -> str:
    """The report's data for people."""
    where = report["machine"]
    lines = [
        f"### A Capsule at work: digits, 65 x 10 weights, rounds of {ROUND}, {report['key_bits']} bits",
        "",
        f"{where['processor']}, {where['cores']} cores, engine {where['engine']}, load average before",
        f"{where['load']:.1f}; {report['gradients']:,} gradients in {report['rounds']} rounds",
        f"({report['advanced']} advanced).",
        "",
        "| | without requests | with requests |",
        "|---|---|---|",
    ]
    quiet, loaded = report["quiet"], report["loaded"]
    names = {
        "gradients_per_second": ("judged gradients a second", "{:.1f}", 1),
        "job_seconds_per_gradient": ("processor time in jobs, ms a gradient", "{:.2f}", 1e3),
        "decrypting_per_gradient": ("decryption", "{:.2f}", 1e3),
        "ciphertexts_per_gradient": ("checks, product, encryption", "{:.2f}", 1e3),
        "judging_per_gradient": ("judging", "{:.2f}", 1e3),
        "judge_cpu_per_gradient": ("processor time of judge processes, ms a gradient", "{:.2f}", 1e3),
        "service_cpu_per_gradient": ("processor time of the service, ms a gradient", "{:.2f}", 1e3),
        "key_seconds_per_gradient": ("making the next key, ms a gradient (ahead, not in the rate)", "{:.2f}", 1e3),
        "decrypting_of_jobs": ("decryption, of that", "{:.0f}%", 100),
        "arithmetic_of_jobs": ("all arithmetic, of that", "{:.0f}%", 100),
        "arithmetic_of_all_cpu": ("all arithmetic, of the Capsule's processor time", "{:.0f}%", 100),
    }
    for name, (words, form, factor) in names.items():
        cells = [form.format(side[name] * factor) if side else "" for side in (quiet, loaded)]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    lines += ["", "| answers, ms | requests | p50 | p90 | p99 | slowest |", "|---|---|---|---|---|---|"]
    for when, found in report["latency"].items():
        for name in ("info", "admissions"):
            if name in found:
                one = found[name]
                figures = " | ".join(f"{one[p]:.1f}" for p in ("p50", "p90", "p99", "p100"))
                lines.append(f"| {name}, {when} | {one['requests']} | {figures} |")
    lines += ["", "| after gradients | service, MiB | judge processes, MiB |", "|---|---|---|"]
    lines += [f"| {row['gradients']} | {row['service']} | {row['judges']} |" for row in report["memory_mib"]]
    lines += ["", *(f"PROBLEM: {problem}" for problem in report["problems"])]
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What was measured on."""
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]  # fmt: skip
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "engine": get_engine().name,
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }
