"""Captions of the tables and figures in the report of the brain experiment."""

SYNTHETIC = (
    "The brains of this run are synthetic: these values are not results on patients, and do not "
    "show how well a method would do on patients."
)
LOCALISATION = (
    "Mean ± standard deviation over patients; with several seeds, the standard deviation of that "
    "mean over seeds is in brackets. Only voxels inside the brain mask count. AUROC30: area up to "
    "a false positive rate of 0.3, standardised after McClish; chance is 0.5. Dice best: at the "
    "threshold that is best for each patient, which is unknown in practice. Dice at 1%: at the "
    "threshold that 1% of the voxels of held-out normal subjects exceed. AUPRO30: mean overlap "
    "with the components of the lesion, up to a false positive rate of 0.3; chance is 0.15. "
    "A learned method that does not find more than the trivial baselines has learned nothing."
)
PROCESSED = (
    "Maps are median filtered (side {median}) inside masks eroded by {erosion} voxels. Both Dice "
    "scores ignore components of fewer than {smallest} voxels."
)
IMAGES = (
    "AUROC of whole images: mean over seeds, with the standard deviation in brackets. The score of "
    "an image is the 98th percentile of its voxels' scores, which for -f is minus the 2nd "
    "percentile of the decision function, as in the paper; {excluded}. p: share of the resamples "
    "of the images (paired bootstrap, {resamples:,}) in which the method beats the best of its "
    "arm, times the number of rivals (Bonferroni)."
)
RANKS = (
    "All methods are scored on the same patients, so the tests of Friedman and Wilcoxon, which "
    "compare within each patient, fit this design. The Kruskal-Wallis test and Dunn's test, which "
    "the paper uses, treat the values as independent samples. Raw maps; each patient's value is "
    "the mean over seeds."
)
SHORT = "Voxels of the raw maps: mean over patients and seeds. Images: AUROC of whole images."
GALLERY = (
    "Three patients of the first arm per kind of lesion: those with the smallest, the median and "
    "the largest lesion, each on the slice where the lesion is largest. Each method has its own "
    "colour scale, from the median of its scores over all subjects of the arm to their 99.5th "
    "percentile. The third column shows the voxels above the threshold that 1% of the voxels of "
    "held-out normal subjects exceed. First seed."
)
