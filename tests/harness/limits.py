"""Kafka's limits, and the sizes that just reach them."""

# `message.max.bytes`: the largest batch, with its 12 bytes of offset and length.
LARGEST_BATCH = 1_048_588

# The value of a record without key and headers that fills a batch by itself: 61 bytes of batch header and 11 of the
# record's own (length 3, attributes 1, timestamp 1, offset 1, key length 1, value length 3, header count 1).
LARGEST_SINGLE_VALUE = LARGEST_BATCH - 61 - 11
