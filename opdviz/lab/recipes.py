"""What the lab can train: plain data, read by `train` (one run) and `plan` (all of them).

A recipe's name with `@` is a variant: `opd@3e-06` the learning rate of a grid, `opd@h128@3e-06` a
width of the sweep.
"""

from dataclasses import asdict, dataclass, replace

HIDDEN, LAYERS = 256, 3
BATCH = 64
# Samples a prompt, whose mean is GRPO's baseline.
GENERATIONS = 8
WEIGHT_DECAY = 0.01
STEPS = 200
TRAJECTORY = tuple(range(25, STEPS + 1, 25))
# Looks at the validation problems along a run.
CURVE_POINTS = 8
VALIDATION, TEST = 500, 2000
# Test problems that a trial is graded on: a run of other steps than its recipe says.
TRIAL = 200
# Steps: of the rate's fall to zero once a base is good enough, and between two looks at that.
ANNEAL, LOOK_EVERY = 50, 10
# Density of an OPD mask in arXiv 2606.13657, where it is the chance level of an overlap.
PAPER_DENSITY = 0.175


@dataclass(frozen=True)
class Recipe:
    """One way to train.

    `loop` names the trainer; `mask` the run whose subnetwork alone may move, and how it is chosen:
    `visible`, `density` or `random`; `seed` is set where a run is not the seed's own but one for
    all (base, teacher); `until` ends a run early, `ANNEAL` steps after validation accuracy has
    reached it. `weights` is the format that they are updated in: a copy of float32, rounded when it
    is saved, or bfloat16 itself.
    """

    name: str
    text: str
    loop: str
    learning_rate: float
    steps: int = STEPS
    optimizer: str = "adamw_torch"
    hidden: int = HIDDEN
    layers: int = LAYERS
    base: str = "base"
    mask: tuple[str, str] | None = None
    saves: tuple[int, ...] = ()
    diagnostics: bool = False
    seed: int | None = None
    until: float | None = None
    weights: str = "float32"

    @property
    def data(self) -> dict:
        """Everything that decides what comes out, as JSON keeps it; without the format of the
        weights where it is the usual one, which runs of before do not name.
        """
        facts = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        usual = Recipe.__dataclass_fields__["weights"].default
        return {k: v for k, v in facts.items() if k != "text" and (k, v) != ("weights", usual)}

    @property
    def needs(self) -> tuple[str, ...]:
        """The runs that must be finished before this one."""
        if self.loop == "pretrain":
            return ()
        teacher = ("teacher",) if self.loop in ("distillation", "samples") else ()
        return (self.base, *teacher, *((self.mask[0],) if self.mask else ()))


def pretrained(hidden: int) -> Recipe:
    """The base of a width, stopped short of the task."""
    name = "base" if hidden == HIDDEN else f"base@h{hidden}"
    return Recipe(
        name,
        "before: short of the task",
        "pretrain",
        1e-3,
        steps=2000,
        hidden=hidden,
        seed=0,
        until=0.15,
    )


BASES = tuple(pretrained(hidden) for hidden in (HIDDEN, 128, 384))
TEACHER = Recipe(
    "teacher", "the same size, trained to the end", "pretrain", 1e-3, steps=2000, seed=1, until=0.97
)
OPD = Recipe(
    "opd",
    "on-policy distillation: reverse KL to the teacher on the student's own samples",
    "distillation",
    2e-6,
    saves=TRAJECTORY,
    diagnostics=True,
)
GRPO = Recipe("grpo", "reinforcement learning: reward for the exact answer", "grpo", 2e-6)


def opd(name: str, text: str, **more) -> Recipe:
    """A recipe like `opd` in all but what is named."""
    return replace(OPD, **{"name": name, "text": text, "saves": (), "diagnostics": False} | more)


MAIN = (
    Recipe("sft", "supervised fine-tuning on the right answers", "sft", 2e-6),
    Recipe(
        "offline_distillation", "supervised fine-tuning on the teacher's samples", "samples", 2e-6
    ),
    GRPO,
    OPD,
    opd(
        "opd_sgd",
        "OPD with SGD, no momentum",
        optimizer="sgd",
        learning_rate=3e-2,
        diagnostics=True,
    ),
    opd("opd_self", "OPD whose teacher is the base, told the answer", loop="self"),
    opd("opd_subnetwork", "OPD of only what `opd` visibly moved", mask=("opd", "visible")),
    opd(
        "opd_subnetwork_17",
        "OPD of only what `opd` moved most, near 17.5 % of all",
        mask=("opd", "density"),
    ),
    opd("grpo_subnetwork", "OPD of only what `grpo` visibly moved", mask=("grpo", "visible")),
    opd(
        "opd_random_mask",
        "OPD of as many random coordinates, matrix by matrix",
        mask=("opd", "random"),
    ),
)
# The same without a copy of float32: steps that bf16 cannot hold are lost.
IN_16_BITS = (
    Recipe("sft_16bit", "`sft` of weights kept in bf16 itself", "sft", 2e-6, weights="bfloat16"),
    opd("opd_16bit", "`opd` of weights kept in bf16 itself", weights="bfloat16"),
)
CONTROLS = (
    *IN_16_BITS,
    opd(
        "grpo_random_mask",
        "OPD of as many random coordinates as `grpo` visibly moved",
        mask=("grpo", "random"),
    ),
)
SWEEP_RATES = (1e-6, 3e-6, 1e-5, 3e-5)
GRIDS = {
    "opd": (1e-6, 2e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3),
    "opd_sgd": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1),
}


def at_rate(recipe: Recipe, rate: float) -> Recipe:
    """A recipe at another learning rate: the recipe itself where that is its own."""
    if rate == recipe.learning_rate:
        return recipe
    return replace(recipe, name=f"{recipe.name}@{rate:g}", learning_rate=rate, saves=())


def at_width(rate: float, base: Recipe) -> Recipe:
    """OPD of another width's base at a learning rate; of the student's own width, the grid's."""
    if base.hidden == HIDDEN:
        return at_rate(OPD, rate)
    name = f"opd@h{base.hidden}@{rate:g}"
    return replace(
        OPD,
        name=name,
        learning_rate=rate,
        hidden=base.hidden,
        base=base.name,
        saves=(),
        diagnostics=False,
    )


ABLATION = tuple(at_rate(r, rate) for r in MAIN if r.name in GRIDS for rate in GRIDS[r.name])
SWEEP = tuple(at_width(rate, base) for base in BASES for rate in SWEEP_RATES)
RECIPES = {r.name: r for r in (*BASES, TEACHER, *MAIN, *CONTROLS, *ABLATION, *SWEEP)}
# Shipped of every seed, so that a recipe is seen beside the spread of its seeds.
SEEDED = ("sft", "grpo", "opd")
GROUPS = {"main": MAIN, "controls": CONTROLS, "ablation": ABLATION, "sweep": SWEEP}
