"""The files of a cohort: which subjects a folder holds, found by patterns of their names."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ocsvm_jax.suggestions import unknown

IMAGE, MASK, LESION = (f"{{subject}}_{kind}.nii.gz" for kind in ("T1", "mask", "lesion"))


class Files(NamedTuple):
    """The files of one subject; None where it has no such file."""

    subject: str
    image: Path
    mask: Path | None
    lesion: Path | None


def find(
    root: str | Path, cohort: str, *, image: str = IMAGE, mask: str = MASK, lesion: str = LESION
) -> list[Files]:
    """Finds the subjects of a cohort, sorted by name, without opening any file.

    Every image is a subject; masks without an image are ignored.

    Args:
      root: folder that contains the cohorts.
      cohort: name of a folder in it; "" or "." for the root itself.
      image: pattern of the images inside the cohort's folder, with {subject} in place of the name.
      mask: pattern of the brain masks; "" for none.
      lesion: pattern of the lesion masks; "" for none.

    Raises:
      FileNotFoundError: if the root does not exist, or the cohort contains no image.
      ValueError: if the cohort does not exist, or a pattern lacks {subject}.
    """
    for name, pattern in {"image": image, "mask": mask, "lesion": lesion}.items():
        if "{subject}" not in pattern and (pattern or name == "image"):
            raise ValueError(
                f"{name}={pattern!r} lacks {{subject}}, as in '{{subject}}_T1.nii.gz'."
            )
    folder = folder_of(Path(root), cohort)
    # The first {subject} matches any name but those of hidden files, the others the same name.
    start, *others = re.escape(image).split(re.escape("{subject}"))
    regex = re.compile(start + r"(?P<subject>[^/.][^/]*)" + r"(?P=subject)".join(others))
    paths = folder.glob("*".join(glob.escape(part) for part in image.split("{subject}")))
    found = [regex.fullmatch(p.relative_to(folder).as_posix()) for p in paths if p.is_file()]
    subjects = sorted(match["subject"] for match in found if match)

    def file(pattern: str, subject: str) -> Path | None:
        path = folder / pattern.replace("{subject}", subject)
        return path if pattern and path.is_file() else None

    files = [
        Files(s, folder / image.replace("{subject}", s), file(mask, s), file(lesion, s))
        for s in subjects
    ]
    # A pattern such as {subject}.nii.gz also matches masks, as if they were images of subjects.
    companions = {path for _, _, *paths in files for path in paths}
    files = [f for f in files if f.image not in companions or f.image in f[2:]]
    if not files:
        raise FileNotFoundError(f"no file {image} in {folder}, which holds {_content(folder)}.")
    return files


def folder_of(root: Path, cohort: str) -> Path:
    """The folder of a cohort; raises as `find` if it does not exist."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; it should hold one folder per cohort.")
    folder = root / cohort
    if not folder.is_dir():
        names = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name[0] != ".")
        raise ValueError(
            unknown(f"cohort in {root}:", cohort, names or ["'.' (the folder itself)"])
        )
    return folder


def _content(folder: Path) -> str:
    return shortened(sorted(p.name for p in folder.iterdir() if p.name[0] != ".")) or "nothing"


def shortened(names: Sequence[str], most: int = 5) -> str:
    """The first names of a list, and the number of the others."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
