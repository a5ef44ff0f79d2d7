"""What an outsider sees in the samples of the demo's models: a support vector machine on pixels, which shares nothing
with the line's own judges, is asked for the digit on each.

    python -m benchmarks.recognised [MODEL ...]     in a project with data/ and models/; all models by default
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
from sklearn.svm import SVC

import genmodel
from genmodel.data.block import Block
from genmodel.errors import ModelError, user_errors
from genmodel.sizes import Size

SURE = 0.9  # of the most likely class
SAMPLES = 1000


def judge(block: Block, size: Size) -> SVC:
    """A support vector machine that has learnt the block's train images."""
    rows = block.rows("train")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # scikit-learn 1.9: another way to get probabilities, less sure
        return SVC(C=10, probability=True, random_state=0).fit(_flat(block.gather(size, rows)), block.labels[rows])


def line(name: str, svm: SVC, images: np.ndarray) -> str:
    """How many of uint8 [N, H, W, C] images it is sure of, and how unevenly their classes come."""
    chances = svm.predict_proba(_flat(images))
    shares = np.bincount(chances.argmax(1), minlength=chances.shape[1]) / len(images)
    return f"{name:24} {np.mean(chances.max(1) > SURE):10.1%} {shares.min():10.1%} {shares.max():10.1%}"


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recognised", description=__doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="a folder in models/ (default: all of them)")
    names = parser.parse_args(argv).models
    with user_errors():
        compare(names or sorted(path.name for path in Path("models").glob("*")))


def compare(names: list[str]) -> None:
    """Print what it sees in real images and in those of the models of these names."""
    block = genmodel.open_block("data")
    models = [genmodel.load_model(Path("models") / name) for name in names]
    if not models:
        raise ModelError("models/ holds no model: train one first")
    size = models[0].network.image_size
    svm = judge(block, size)
    held_out = block.rows("val")
    right = svm.score(_flat(block.gather(size, held_out)), block.labels[held_out])
    print(f"the judge is right about {right:.1%} of the val images\n")
    print(f"{'images':24} {'sure of':>10} {'rarest':>10} {'commonest':>10}")
    print(line("real, val", svm, block.gather(size, held_out)))
    for model in models:
        samples = model.sample(SAMPLES)
        print(line(model.name, svm, samples))
        if model.classes:
            asked = np.concatenate([model.sample(50, label=k) for k in range(len(model.classes))])
            seen = svm.predict(_flat(asked))
            print(
                f"{'':24} shows the class asked for in {np.mean(seen == np.repeat(range(len(model.classes)), 50)):.1%}"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
