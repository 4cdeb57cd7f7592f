"""Repeats the table of a finished run from its checkpoint, or scores your own images.

python eval.py --workdir=DIR [--data_dir=DIR] [--protocol=leak_free] [--by_domain]
python eval.py --workdir=DIR --images=x.npy [--output=scores.csv] [--by_domain]
"""

from pathlib import Path

from ocsvm_jax import extras

with extras.needed_by("eval.py", "train", script=__name__ == "__main__"):
    from absl import flags

    from ocsvm_jax.experiments import cli
    from ocsvm_jax.experiments.images.trained import judge as main
    from ocsvm_jax.experiments.images.trained import score_file


def _from_flags() -> None:
    given = flags.FLAGS
    if given.workdir is None:
        raise ValueError("no --workdir; pass the directory that train.py printed or was given.")
    if given.images is None:
        if given.output is not None:
            raise ValueError("--output is for the scores of --images; there are no --images.")
        main(given.workdir, given.data_dir, given.protocol, given.by_domain)
    else:
        if given.data_dir is not None or given.protocol is not None:
            raise ValueError("--images are scored alone: leave out --data_dir and --protocol.")
        images = Path(given.images)
        output = given.output or images.with_suffix(".scores.csv")
        score_file(given.workdir, images, output, given.by_domain)


if __name__ == "__main__":
    # Defined here, so that a notebook can import both train and eval.
    flags.DEFINE_string("workdir", None, "working directory of a run of train.py")
    flags.DEFINE_string("data_dir", None, "new location of the data, if they have moved")
    flags.DEFINE_string("protocol", None, "a protocol other than that of the run")
    flags.DEFINE_string("images", None, "a .npy file of images (n, 28, 28) to score instead")
    flags.DEFINE_string(
        "output", None, "CSV file for their scores; default: x.scores.csv beside x.npy"
    )
    flags.DEFINE_bool(
        "by_domain", False, "add scores without the domain: in units of groups of similar images"
    )
    cli.run(_from_flags)
