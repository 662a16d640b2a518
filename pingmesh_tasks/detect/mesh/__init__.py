"""Detection on the mesh: from the pairs of a span of time to findings.

evaluate_mesh     what is wrong now: one evaluation, of the hot path or the batch path
update_baseline   what is normal for each pair, after one more window
classify_heatmap  what the picture of a window shows, in one word
"""

from pingmesh_tasks.detect.mesh.baseline import update_baseline
from pingmesh_tasks.detect.mesh.evaluate import MeshView, evaluate_mesh
from pingmesh_tasks.detect.mesh.patterns import HeatmapPattern, classify_heatmap

__all__ = ["HeatmapPattern", "MeshView", "classify_heatmap", "evaluate_mesh", "update_baseline"]
