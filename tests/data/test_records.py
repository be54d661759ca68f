"""Records as bytes: back without a difference, or refused."""

import zlib

import numpy as np
import pytest
from mask_files import HW, blob, make_record

from uniovseg_jax.data import records
from uniovseg_jax.masks import rle_decode, rle_encode


@pytest.mark.parametrize("num_masks", [0, 1, 7])
def test_a_record_comes_back_as_it_was(num_masks):
    record = make_record(3, num_masks)
    assert records.decode_record(records.encode_record(record)) == record


def test_scores_are_optional_but_not_for_some_masks_only():
    record = make_record(0)
    for mask in record["masks"]:
        del mask["stability"]
    assert records.decode_record(records.encode_record(record)) == record
    del record["masks"][1]["predicted_iou"]
    with pytest.raises(ValueError, match="2 of 3 masks have a predicted_iou"):
        records.encode_record(record)


def test_no_flipped_bit_and_no_cut_passes():
    encoded = records.encode_record(make_record(1, 1))
    for bit in range(0, 8 * len(encoded), 3):
        damaged = bytearray(encoded)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="checksum"):
            records.decode_record(bytes(damaged))
    for length in range(len(encoded)):
        with pytest.raises(ValueError):
            records.decode_record(encoded[:length])


def test_bytes_with_a_good_checksum_may_still_be_no_record():
    for payload in (b"\x80", b"\xc1", b"abc", b"\x81\xa2id\xa1x"):
        checksum = zlib.crc32(payload).to_bytes(4, "little")
        with pytest.raises(ValueError, match="no image-mask record"):
            records.decode_record(checksum + payload)


def test_checked_masks_have_the_pixels_of_every_form_that_came():
    mask = blob(np.random.default_rng(0))
    text = rle_encode(mask)
    runs = np.diff(np.flatnonzero(np.diff(mask.ravel("F").astype(int), prepend=0, append=2)))
    plain = {"size": list(HW), "counts": [int(np.argmax(mask.ravel("F"))), *map(int, runs)]}
    as_bytes = {"size": list(HW), "counts": text["counts"].encode(), "predicted_iou": 1}
    checked, num_empty = records.check_masks([text, plain, as_bytes], *HW)
    assert num_empty == 0
    for found in checked:
        assert isinstance(found["counts"], bytes)
        np.testing.assert_array_equal(rle_decode(found), mask)
    assert checked[2]["predicted_iou"] == 1.0


def test_empty_masks_are_counted_and_wrong_ones_named():
    good = rle_encode(blob(np.random.default_rng(0)))
    empty = rle_encode(np.zeros(HW, bool))
    checked, num_empty = records.check_masks([good, empty], *HW)
    assert (len(checked), num_empty) == (1, 1)
    turned = {"size": [HW[1], HW[0]], "counts": good["counts"]}
    for bad, message in [
        (turned, r"Mask 1: Its size is \[17, 12\]"),
        (None, "Mask 1: An RLE mask must be"),
        ({**good, "stability": float("nan")}, "stability is 'nan'"),
        ({**good, "predicted_iou": "1"}, "predicted_iou is '1'"),
        ({**good, "counts": good["counts"] + "0"}, "Mask 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            records.check_masks([good, bad], *HW)
    with pytest.raises(ValueError, match="more than 10000"):
        records.check_masks([good] * 10_001, *HW)
