"""What the report of the brain experiment says about its tables and figures."""

SYNTHETIC = (
    "The brains of this run are synthetic: its figures are not results on patients, and say "
    "nothing of how well a method would do on patients."
)
LOCALISATION = (
    "Mean ± standard deviation over patients; in brackets, with several seeds, the standard "
    "deviation over the seeds of that mean. Only voxels inside the brain mask count. AUROC30: "
    "false positive rates up to 0.3, after McClish; 0.5 is chance. Dice best: at the threshold "
    "that is best for each single patient, which nobody knows beforehand. Dice at 1%: at the "
    "threshold that 1% of the voxels of held-out normal subjects exceed. AUPRO30: mean overlap "
    "with the components of the lesion, up to a false positive rate of 0.3; 0.15 is chance. "
    "A learned method that does not find more than the trivial baselines has learned nothing."
)
PROCESSED = (
    "Maps after a median filter of side {median} inside masks eroded by {erosion} voxels. Both "
    "Dice leave components below {smallest} voxels out."
)
IMAGES = (
    "AUROC of whole images, the mean over the seeds and in brackets its standard deviation. The "
    "score of an image is the 98th percentile of its voxels' scores, which for -f is minus the 2nd "
    "percentile of the decision function, as in the paper; {excluded}. p: the share of the "
    "resamples of the images (paired bootstrap, {resamples:,}) in which the method beats the best "
    "of its arm, times the number of rivals (Bonferroni)."
)
RANKS = (
    "All methods are scored on the same patients, so Friedman's test and Wilcoxon's, which compare "
    "within each patient, fit this design. Kruskal and Wallis's test and Dunn's, which the paper "
    "uses, take the values as independent samples. Raw maps; a patient stands for the mean over "
    "the seeds."
)
SHORT = "Voxels of the raw maps, means over patients and seeds; images: AUROC of whole images."
GALLERY = (
    "Three patients of the first arm for each kind of lesion: those with the smallest, the median "
    "and the largest, each on the slice where it is largest. Each method has one scale of colours, "
    "from the median of its scores over all subjects of the arm to their 99.5th percentile. The "
    "third column shows what lies above the threshold that 1% of the voxels of held-out normal "
    "subjects exceed. First seed."
)
