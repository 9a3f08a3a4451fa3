"""Headers, transactions, receipts and logs of the embedded chain, as JSON-RPC writes them."""

from typing import Any

from eth_utils.address import to_checksum_address

from sonar.chain._evm import CHAIN_ID, Mined

__all__ = ["checksum", "header_json", "hexed", "logs_json", "receipt_json", "transaction_json"]


def header_json(header: Any) -> dict[str, Any]:
    """A block's header."""
    return {
        "number": hex(header.block_number),
        "hash": hexed(header.hash),
        "parentHash": hexed(header.parent_hash),
        "nonce": hexed(header.nonce),
        "sha3Uncles": hexed(header.uncles_hash),
        "logsBloom": f"0x{header.bloom:0512x}",
        "transactionsRoot": hexed(header.transaction_root),
        "stateRoot": hexed(header.state_root),
        "receiptsRoot": hexed(header.receipt_root),
        "withdrawalsRoot": hexed(header.withdrawals_root),
        "miner": checksum(header.coinbase),
        "difficulty": hex(header.difficulty),
        "totalDifficulty": "0x0",
        "mixHash": hexed(header.mix_hash),
        "extraData": hexed(header.extra_data),
        "gasLimit": hex(header.gas_limit),
        "gasUsed": hex(header.gas_used),
        "timestamp": hex(header.timestamp),
        "baseFeePerGas": hex(header.base_fee_per_gas),
    }


def transaction_json(mined: Mined | None) -> dict[str, Any] | None:
    """A mined transaction; None for none."""
    if mined is None:
        return None
    transaction = mined.transaction
    typed = getattr(transaction, "type_id", None)
    parity = transaction.y_parity
    fields: dict[str, Any] = {
        "hash": hexed(transaction.hash),
        "type": hex(typed or 0),
        "nonce": hex(transaction.nonce),
        "blockHash": hexed(mined.block.hash),
        "blockNumber": hex(mined.block.number),
        "transactionIndex": "0x0",
        "from": checksum(transaction.sender),
        "to": checksum(transaction.to) if transaction.to else None,
        "value": hex(transaction.value),
        "gas": hex(transaction.gas),
        "gasPrice": hex(_paid_price(mined)),
        "input": hexed(transaction.data),
        "v": hex(parity if typed is not None else transaction.v),
        "r": hex(transaction.r),
        "s": hex(transaction.s),
    }
    if typed is not None:
        fields |= {"chainId": hex(CHAIN_ID), "accessList": [], "yParity": hex(parity)}
    if typed == 2:
        fields |= {
            "maxFeePerGas": hex(transaction.max_fee_per_gas),
            "maxPriorityFeePerGas": hex(transaction.max_priority_fee_per_gas),
        }
    return fields


def _paid_price(mined: Mined) -> int:
    transaction, base = mined.transaction, mined.block.header.base_fee_per_gas or 0
    return int(min(transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas + base))


def receipt_json(mined: Mined | None) -> dict[str, Any] | None:
    """A mined transaction's receipt; None for none."""
    if mined is None:
        return None
    transaction = mined.transaction
    return {
        "transactionHash": hexed(transaction.hash),
        "transactionIndex": "0x0",
        "type": hex(getattr(transaction, "type_id", None) or 0),
        "blockHash": hexed(mined.block.hash),
        "blockNumber": hex(mined.block.number),
        "from": checksum(transaction.sender),
        "to": checksum(transaction.to) if transaction.to else None,
        "contractAddress": None if mined.contract is None else checksum(mined.contract),
        "cumulativeGasUsed": hex(mined.receipt.gas_used),
        "gasUsed": hex(mined.receipt.gas_used),
        "effectiveGasPrice": hex(_paid_price(mined)),
        "logsBloom": f"0x{mined.receipt.bloom:0512x}",
        "status": hex(int(mined.receipt.state_root == b"\x01")),
        "logs": logs_json(mined),
    }


def logs_json(mined: Mined) -> list[dict[str, Any]]:
    """The logs of a mined transaction."""
    return [
        {
            "address": checksum(log.address),
            "topics": [f"0x{topic:064x}" for topic in log.topics],
            "data": hexed(log.data),
            "blockNumber": hex(mined.block.number),
            "blockHash": hexed(mined.block.hash),
            "transactionHash": hexed(mined.transaction.hash),
            "transactionIndex": "0x0",
            "logIndex": hex(index),
            "removed": False,
        }
        for index, log in enumerate(mined.receipt.logs)
    ]


def hexed(data: bytes) -> str:
    """Bytes as 0x and hexadecimal digits."""
    return "0x" + bytes(data).hex()


def checksum(data: bytes) -> str:
    """The EIP-55 form of an address."""
    return str(to_checksum_address(data))
