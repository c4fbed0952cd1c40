"""Files of embeddings, whole and damaged, and distances of odd samples: an error, or numpy's answer."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from odyssey.science.distances import Gaussian, Moments, frechet_distance, mmd_linear
from odyssey.stages.similarity import read_moments

from .conftest import FUZZ
from .damage import damaged, refused

X = np.random.default_rng(0).normal(size=(20, 4))
X /= np.linalg.norm(X, axis=1, keepdims=True)


def npy(x: Any, pickled: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, x, allow_pickle=pickled)
    return file.getvalue()


def npz(x: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, x)
    return file.getvalue()


GOOD = [npy(X.astype(kind)) for kind in ("f4", "f8", "f2", ">f4", "g")] + [npy(np.asfortranarray(X)), npy(X[:2])]
GOOD += [npy((9 * X).astype("i4")), npy(np.ones((9, 3), "f4"))]
BAD = [npy(X.astype(object), pickled=True), npz(X), npy(X[0]), npy(X[None]), npy(X > 0), npy(X + 0j), npy(X[:1]), b""]
BAD += [npy(np.float64(1)), npy(X.astype("U5")), npy(X[:0]), npy(X[:, :0]), npy(np.zeros(3, [("a", "f4")]))]
BAD += [
    npy(X * 1e200),
    npy(np.full((3, 2), 1e300)),
    npy(np.where(X > 0.5, np.nan, X)),
    npy(np.where(X > 0.5, np.inf, X)),
]
BAD += [
    npy(np.array(["2020-01-01"] * 4, "M8[D]")),
    npy(X.astype("g") * np.longdouble("1e4000")),
    b"PK\x03\x04",
    b"\x80\x04.",
]
HEADER = "0123456789()[]{},'\"<>|=fOVUSMTrue\n#\\+-xL \0"


@st.composite
def odd_headers(draw: Any) -> bytes:
    """A good file with some characters of its header changed."""
    content = bytearray(draw(st.sampled_from(GOOD)))
    for place in draw(st.lists(st.integers(0, 100), min_size=1, max_size=3)):
        content[place] = ord(draw(st.sampled_from(HEADER)))
    return bytes(content)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embeddings") / "vectors.npy"


@FUZZ
@given(content=st.one_of(odd_headers(), damaged(GOOD), damaged(BAD)), block=st.sampled_from([1, 7, 100]))
def test_moments_are_numpys_or_the_file_is_refused(path: Path, content: bytes, block: int) -> None:
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Python's parser makes of a header
        warnings.simplefilter("error", RuntimeWarning)
        found = refused(path, lambda: read_moments(path, block))
        if isinstance(found, str):
            return
        x = np.load(path).astype(np.float64)
    assert found.n == len(x) >= 2
    scale = abs(x).max() + 1e-300
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-9, atol=1e-12 * scale)
    np.testing.assert_allclose(found.cov, np.atleast_2d(np.cov(x, rowvar=False)), rtol=1e-9, atol=1e-12 * scale**2)


@pytest.mark.parametrize("content", BAD)
def test_what_is_no_array_of_embeddings_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert isinstance(refused(path, lambda: read_moments(path)), str)


def test_embeddings_of_another_width_are_refused(path: Path) -> None:
    path.write_bytes(GOOD[0])
    assert read_moments(path, d=4).n == 20
    assert "expected rows of dimension 3, found 4" in str(refused(path, lambda: read_moments(path, d=3)))


VALUE = st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-8, 1e-160, 3e7])


@FUZZ
@given(
    rows=st.lists(st.lists(VALUE, min_size=2, max_size=2), min_size=2, max_size=5),
    others=st.lists(st.lists(VALUE, min_size=2, max_size=2), min_size=2, max_size=5),
    same=st.booleans(),
)
def test_distances_of_few_and_of_equal_rows(rows: list[list[float]], others: list[list[float]], same: bool) -> None:
    """Of two Gaussians in the plane there is a formula without roots of matrices, by determinants."""
    x = np.array(rows[:1] * len(rows) if same else rows)
    y = np.array(others)
    a, b = (Moments().update(z) for z in (x, y))
    mmd, fd = mmd_linear(a.mean, b.mean), frechet_distance(a.mean, a.cov, b.mean, b.cov)
    scale = max(abs(x).max(), abs(y).max()) ** 2
    assert mmd == pytest.approx(((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum(), rel=1e-9, abs=1e-12 * scale)
    product = np.trace(a.cov @ b.cov) + 2 * np.sqrt(max(np.linalg.det(a.cov), 0) * max(np.linalg.det(b.cov), 0))
    expected = mmd + np.trace(a.cov) + np.trace(b.cov) - 2 * np.sqrt(max(product, 0))
    assert fd == pytest.approx(expected, rel=1e-6, abs=1e-6 * scale)
    assert fd >= mmd >= 0
    assert fd == pytest.approx(frechet_distance(b.mean, b.cov, a.mean, a.cov), rel=1e-6, abs=1e-9 * scale)
    for one in (a, b):
        assert mmd_linear(one.mean, one.mean) == frechet_distance(one.mean, one.cov, one.mean, one.cov) == 0
        assert Gaussian(one.mean, one.cov).frechet_distance(one.gaussian()) == 0
