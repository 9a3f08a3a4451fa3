"""What actors say to each other: the campaign spec, EIP-712 messages, sealed boxes.

ProtocolError
|-- SpecError        a campaign spec that breaks its schema or contradicts itself
|-- SignatureError   a signature that is malformed, expired or another account's
`-- SealedBoxError   a sealed box that does not open, or was made for something else
"""
