"""Brownie's command line with a coverage that works; scripts/coverage-contracts runs it in Brownie's environment.

Brownie 1.22 measures nothing here by itself: its compiled modules for coverage raise a TypeError, and it does not trace
contracts whose deployed code differs from the compiled one, as all do that have immutables. And it asks for the memory
at every step of a transaction, which takes gigabytes for a settlement of 64 gradients.
"""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

COMPILED_WRONGLY = {"brownie.test.coverage", "brownie.test.output"}


class _FromSource(MetaPathFinder):
    """Takes the Python source of a module whose compiled form is broken; both are installed."""

    def find_spec(self, name, path, target=None) -> ModuleSpec | None:  # noqa: ARG002 (the protocol's)
        if name not in COMPILED_WRONGLY:
            return None
        (package,) = path
        return spec_from_file_location(name, Path(package) / f"{name.rpartition('.')[2]}.py")


def main() -> None:
    sys.meta_path.insert(0, _FromSource())

    import brownie.network.contract
    from brownie._cli.__main__ import main as brownie_main
    from brownie.network.state import _find_contract
    from brownie.network.transaction import TransactionReceipt
    from web3 import HTTPProvider

    brownie.network.contract._verify_deployed_code = lambda *_: True

    set_from_receipt = TransactionReceipt._set_from_receipt

    def set_from_receipt_and_path(transaction: TransactionReceipt, receipt) -> None:
        # Brownie traces no transaction whose hash it knows. Two that call the same function, end alike and burn the
        # same gas but for their bytes go the same way. If ever they did not, coverage is too low, never too high.
        set_from_receipt(transaction, receipt)
        contract = _find_contract(transaction.receiver) if transaction.receiver else None
        data = bytes.fromhex(transaction.input.removeprefix("0x"))
        gas = transaction.gas_used - sum(16 if byte else 4 for byte in data)
        called = contract._name if contract else transaction.receiver
        transaction.coverage_hash = f"{called} {data[:4].hex()} {len(data)} {int(transaction.status)} {gas}"

    TransactionReceipt._set_from_receipt = set_from_receipt_and_path

    make_request = HTTPProvider.make_request

    def make_request_without_memory(provider: HTTPProvider, method: str, parameters):
        # The first option tells Brownie's own requests from the tests', which want an answer out of the memory.
        if method != "debug_traceTransaction" or not parameters or "disableStorage" not in parameters[1]:
            return make_request(provider, method, parameters)
        answer = make_request(provider, method, (parameters[0], {"disableStorage": True, "disableMemory": True}))
        for step in answer.get("result", {}).get("structLogs", []):
            step["memory"] = []
        return answer

    HTTPProvider.make_request = make_request_without_memory
    # Without the memory there is no return value to decode.
    TransactionReceipt._confirmed_trace = lambda *_: None

    brownie_main()


if __name__ == "__main__":
    main()
