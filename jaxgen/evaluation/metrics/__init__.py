"""Pure functions of feature arrays [N, D], class probabilities and images; float64 numpy; no
network, no randomness but a seed.

Distances between sets (`frechet`, `kernel`)
    Moments, moments             what a set's Gaussian is fitted by
    frechet_distance             of Gaussians fitted to real and generated features
    frechet_distance_of_moments  the same from published statistics
    frechet_distance_infinity    extrapolated to infinitely many generated samples
    polynomial_mmd               unbiased MMD^2 with the cubic kernel, all rows
    kernel_distance              the same over random subsets
    gaussian_mmd                 unbiased MMD^2 with a Gaussian kernel, for points
Distances between points (`transport`)
    sliced_wasserstein           mean Wasserstein-1 distance of projections onto lines
Neighbours (`neighbours`)
    PrecisionRecall, precision_recall, DensityCoverage, density_coverage
    precision_recall_density_coverage  both for the price of one
    nearest_distance             of each query to its nearest point
Copies (`copies`)
    training_side                share nearer to training than to held-out points
    distance_ratio               median distance to training over that to held-out points
    training_side_and_distance_ratio   both for the price of one
    copy_rate                    share much nearer to one training point than to all others
    exact_copies, duplicates     uint8 images that are bit for bit another
Diversity (`diversity`)
    vendi_score                  effective number of different rows
    class_shares, class_distance shares of classes, and their total variation
    Modes, modes                 modes hit, and KL from equal shares
    inception_score              exp of the information between image and class
    confident_share              share of images with a class above 0.8
Images (`images`)
    mean_squared_error, psnr, ssim, ms_ssim   of each pair of images
    pairwise_ms_ssim             mean over random pairs of one set
    bits_per_dimension           of a likelihood in nats
Estimate                         mean and std of a repeated measurement
"""

from jaxgen.evaluation.metrics.common import Estimate
from jaxgen.evaluation.metrics.copies import (
    copy_rate,
    distance_ratio,
    duplicates,
    exact_copies,
    training_side,
    training_side_and_distance_ratio,
)
from jaxgen.evaluation.metrics.diversity import (
    Modes,
    class_distance,
    class_shares,
    confident_share,
    inception_score,
    modes,
    vendi_score,
)
from jaxgen.evaluation.metrics.frechet import (
    Moments,
    frechet_distance,
    frechet_distance_infinity,
    frechet_distance_of_moments,
    moments,
)
from jaxgen.evaluation.metrics.images import (
    bits_per_dimension,
    mean_squared_error,
    ms_ssim,
    pairwise_ms_ssim,
    psnr,
    ssim,
)
from jaxgen.evaluation.metrics.kernel import gaussian_mmd, kernel_distance, polynomial_mmd
from jaxgen.evaluation.metrics.neighbours import (
    DensityCoverage,
    PrecisionRecall,
    density_coverage,
    nearest_distance,
    precision_recall,
    precision_recall_density_coverage,
)
from jaxgen.evaluation.metrics.transport import sliced_wasserstein
