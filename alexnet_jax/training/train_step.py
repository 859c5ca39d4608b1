"""One training step and one evaluation step over a mesh, each a single compiled program.

Both run inside `jax.shard_map`: every device sees its own examples and its own towers. Devices
communicate only where it is written: the towers' exchanges over "model" in the network, the sums of
gradients and scores over "data" here.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from alexnet_jax.data import augment
from alexnet_jax.model import alexnet
from alexnet_jax.model.architecture import Architecture, Parameters, partition_specs
from alexnet_jax.model.ops import REFERENCE, Operations
from alexnet_jax.parallel.axes import DATA_AXIS, MODEL_AXIS
from alexnet_jax.parallel.mesh import batch_sharding, put_replicated, replicated
from alexnet_jax.training import grad_accum, metrics, reductions
from alexnet_jax.training import optimizer as optimizers
from alexnet_jax.training.preprocessing import Augmentation, Preprocessing
from alexnet_jax.training.rng import ExampleKeys, example_keys, root_key
from alexnet_jax.training.train_state import TrainState, averaged

WHOLE = PartitionSpec()


@dataclasses.dataclass(frozen=True)
class Steps:
    """A network with its update rule on a mesh: the initial state and the jitted steps.

    `param_dtype` is that of parameters and preprocessing (float32; float64 for proofs), `dtype`
    that of activations (float32 or bfloat16). Logits and loss are at least float32. The norm of the
    gradient is measured at every `norm_every`-th step, since it costs a pass over all of it. With
    `split_dense` dense layers are split over "data"; see architecture.partition_specs. With
    `skip_bad_steps` a step whose loss or gradient is not finite changes no parameter and no
    velocity. The gradient of `frozen` layers is not computed and counts as 0. `label_smoothing` is
    for training alone; with `ema_decay` the state has a moving average of the parameters with this
    decay. `grad_accum_steps` is the number of parts in which each device works through its
    examples. Gradients are shortened to `clip_norm` (with a `norm_every` of 1). `operations`
    compute: by default plain ones; see kernels.select.
    """

    architecture: Architecture
    num_classes: int
    optimizer: optax.GradientTransformation
    augmentation: Augmentation
    mesh: Mesh
    seed: int
    param_dtype: jnp.dtype = jnp.dtype("float32")
    dtype: jnp.dtype = jnp.dtype("float32")
    norm_every: int = 1
    split_dense: bool = False
    skip_bad_steps: bool = False
    frozen: frozenset[str] = frozenset()
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    grad_accum_steps: int = 1
    clip_norm: float | None = None
    operations: Operations = REFERENCE

    def initial_state(self) -> TrainState:
        """Parameters drawn from the seed; each device draws only what it holds."""
        shardings = jax.tree.map(lambda shape: shape.sharding, self.state_shapes())
        return jax.jit(self._draw_state, out_shardings=shardings)()

    def state_shapes(self) -> TrainState:
        """The state as ShapeDtypeStructs with shardings: what a checkpoint is restored into."""

        def shape(leaf, spec):
            sharding = NamedSharding(self.mesh, spec)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        return jax.tree.map(shape, jax.eval_shape(self._draw_state), self._state_specs())

    def batch_shapes(self, batch: int, size: int) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Images and labels of a global batch as ShapeDtypeStructs, for compiling ahead."""

        def shape(dimensions, dtype):
            return jax.ShapeDtypeStruct(dimensions, dtype, sharding=batch_sharding(self.mesh))

        images = (batch, size, size, self.architecture.channels)
        return shape(images, jnp.uint8), shape((batch,), jnp.int32)

    def training(self):
        """jitted (state, images, labels, preprocessing) -> (state, mean loss of the batch).

        The state is donated. The loss is for whoever wants to wait until the step is done.
        """
        state = self._state_specs()
        inputs = (state, self._batch_spec, self._batch_spec, WHOLE)
        step = self._mapped(self._train, inputs, (state, WHOLE))
        return jax.jit(step, donate_argnums=0)

    def several_trainings(self, unroll: bool = True):
        """jitted as `training`, on batches [steps, batch, ...] in turn -> (state, losses [steps]).

        The host starts one program for all of them; for benchmarks. Without `unroll` it is a loop:
        compiled sooner, but XLA for CPU computes kernel gradients in loops some 20 times slower.
        """

        def steps(state, images, labels, preprocessing):
            def step(state, batch):
                return self._train(state, *batch, preprocessing)

            return jax.lax.scan(step, state, (images, labels), unroll=unroll)

        state, batches = self._state_specs(), PartitionSpec(None, *self._batch_spec)
        mapped = self._mapped(steps, (state, batches, batches, WHOLE), (state, WHOLE))
        return jax.jit(mapped, donate_argnums=0)

    def augmented(self):
        """jitted (step, images, preprocessing) -> what the network sees of a training batch."""
        inputs = (WHOLE, self._batch_spec, WHOLE)
        return jax.jit(self._mapped(self._augmented_batch, inputs, self._batch_spec))

    def gradients(self):
        """jitted (state, images, labels, preprocessing) -> (gradients, scores) of `training`."""
        state = self._state_specs()
        inputs = (state, self._batch_spec, self._batch_spec, WHOLE)
        return jax.jit(self._mapped(self._gradients, inputs, (state.parameters, WHOLE)))

    def evaluation(self, views: str = "center"):
        """jitted (parameters, images, labels, preprocessing) -> (scores, log-probabilities).

        Both are of the arithmetic mean of the softmax probabilities over `views`
        (augment.crop_positions); log-probabilities are [batch, classes].
        """
        inputs = (self._parameter_specs(), self._batch_spec, self._batch_spec, WHOLE)
        evaluate = functools.partial(self._evaluate, views)
        return jax.jit(self._mapped(evaluate, inputs, (WHOLE, self._batch_spec)))

    def with_scores_reset(self, state: TrainState) -> TrainState:
        """The same state with empty sums and no bad step."""
        empty, none = self._reset_scores()
        return state._replace(scores=empty, bad_step=none)

    def with_rate_factor(self, state: TrainState, factor: float) -> TrainState:
        """The same state with another factor on all learning rates."""
        value = np.asarray(factor, self.param_dtype)
        return state._replace(rate_factor=put_replicated(self.mesh, value))

    def diverged_at(self, state: TrainState) -> int:
        """The step, counted from 1, since which the state can't be used; 0 if it can.

        Where bad steps are skipped only parameters that are not finite count: an update can
        overflow though its gradient does not. All processes have to call it, and wait for it.
        """
        return int(self._diverged(state))

    # Kept, because a new function at every log interval would be compiled at every one.

    @functools.cached_property
    def _reset_scores(self):
        def reset():
            return metrics.no_scores(self.param_dtype), jnp.zeros((), jnp.int32)

        return jax.jit(reset, out_shardings=replicated(self.mesh))

    @functools.cached_property
    def _diverged(self):
        def diverged(state):
            finite = reductions.all_finite(
                state.parameters, self._parameter_specs(), self.operations.has_nonfinite
            )
            bad_step = jnp.where(self.skip_bad_steps, 0, state.bad_step)
            return jnp.where((bad_step == 0) & ~finite, state.step, bad_step)

        return jax.jit(self._mapped(diverged, (self._state_specs(),), WHOLE))

    # Below: what runs on one device, with its examples and its towers.

    def _train(self, state: TrainState, images, labels, preprocessing: Preprocessing):
        gradients, batch_scores = self._gradients(state, images, labels, preprocessing)
        step = state.step + 1
        measured, specs = step % self.norm_every == 0, self._parameter_specs()
        has_nonfinite = self.operations.has_nonfinite
        norm, finite = reductions.norm_and_finite(gradients, specs, measured, has_nonfinite)
        step_scores = batch_scores | {"gradient_norm": norm, "norms": measured.astype(jnp.int32)}
        bad = ~(jnp.isfinite(batch_scores["loss"]) & finite)
        step_scores = jax.tree.map(lambda score: jnp.where(bad, 0, score), step_scores)
        step_scores["skipped_steps"] = bad.astype(jnp.int32)
        gradients = reductions.clipped(gradients, norm, self.clip_norm)
        updates, optimizer_state = self.optimizer.update(
            gradients, state.optimizer_state, state.parameters, rate_factor=state.rate_factor
        )
        parameters = optax.apply_updates(state.parameters, updates)
        after = parameters, optimizer_state, self._averaged(state.average, parameters, step)
        if self.skip_bad_steps:
            before = state.parameters, state.optimizer_state, state.average
            after = optimizers.keep_where_bad(bad, before, after)
        parameters, optimizer_state, average = after
        state = state._replace(
            step=step,
            parameters=parameters,
            optimizer_state=optimizer_state,
            average=average,
            scores=jax.tree.map(jnp.add, state.scores, step_scores),
            bad_step=jnp.where(bad & (state.bad_step == 0), step, state.bad_step),
        )
        return state, batch_scores["loss"] / batch_scores["images"]

    def _gradients(self, state: TrainState, images, labels, preprocessing: Preprocessing):
        """Gradients of the mean loss of the global batch, and the sums of its scores."""
        batch_size = len(images) * self.mesh.shape[DATA_AXIS]

        def of_part(parameters, part, images, labels):
            keys = example_keys(
                self.seed, state.step, len(images), group_size=self.augmentation.group_size,
                part=part, num_parts=self.grad_accum_steps, dropout_of_all=self.split_dense,
            )  # fmt: skip
            inputs = self._augmented(state.step, images, keys, preprocessing)

            def mean_loss(parameters):
                frozen = {name: jax.lax.stop_gradient(parameters[name]) for name in self.frozen}
                logits = self._logits(parameters | frozen, inputs, keys.dropout)
                losses, sums = metrics.score(logits, labels, self.label_smoothing)
                return losses.sum() / batch_size, sums

            # shard_map sums the gradients of parameters that are equal along "data" over it.
            return jax.grad(mean_loss, has_aux=True)(parameters)

        batch, specs, parts = (images, labels), self._parameter_specs(), self.grad_accum_steps
        gradients, sums = grad_accum.accumulate(of_part, state.parameters, specs, batch, parts)
        return gradients, jax.lax.psum(sums, DATA_AXIS)

    def _averaged(self, before, parameters, step):
        if not self.ema_decay:
            return None
        moved = averaged(before, parameters, self.ema_decay, step)
        # What stands still does so to the bit; the average of equal numbers may be off by one.
        return moved | {name: parameters[name] for name in self.frozen}

    def _augmented_batch(self, step, images, preprocessing: Preprocessing):
        group_size = self.augmentation.group_size
        keys = example_keys(self.seed, step, len(images), group_size=group_size)
        return self._augmented(step, images, keys, preprocessing)

    def _augmented(self, step, images, keys: ExampleKeys, preprocessing: Preprocessing):
        inputs = self.augmentation.augment(images, keys, step, preprocessing, self.param_dtype)
        # conv1 and the gradient of its weights pad it in two ways: XLA would compute it for each.
        return self.operations.materialize(inputs)

    def _evaluate(self, views: str, parameters, images, labels, preprocessing: Preprocessing):
        positions = augment.crop_positions(views, images.shape[1], self.augmentation.crop)

        def log_softmax(position):
            inputs = self.augmentation.crop_at(images, position, preprocessing, self.param_dtype)
            return jax.nn.log_softmax(self._logits(parameters, inputs))

        log_probabilities = metrics.log_mean_probabilities(log_softmax, positions, like=images)
        _, sums = metrics.score(log_probabilities, labels)
        return jax.lax.psum(sums, DATA_AXIS), log_probabilities

    def _logits(self, parameters: Parameters, inputs, dropout_keys=None):
        return alexnet.apply(self._graph, parameters, inputs, dropout_keys)

    @functools.cached_property
    def _graph(self):
        return alexnet.graph_of(self.architecture, self.num_classes, self.dtype, self.operations)

    def _draw_state(self) -> TrainState:
        parameters = alexnet.draw_parameters(
            self.architecture, self.num_classes, root_key(self.seed), self.param_dtype
        )
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            parameters=parameters,
            optimizer_state=self.optimizer.init(parameters),
            rate_factor=jnp.ones((), self.param_dtype),
            scores=metrics.no_scores(self.param_dtype),
            bad_step=jnp.zeros((), jnp.int32),
            average=parameters if self.ema_decay else None,
        )

    @property
    def _batch_spec(self) -> PartitionSpec:
        """How a batch lies on the mesh: over "data", or whole where one device has all of it.

        Else jax would sum all gradients over that one device, for which XLA copies them on a CPU.
        """
        return PartitionSpec(DATA_AXIS) if self.mesh.shape[DATA_AXIS] > 1 else WHOLE

    def _parameter_specs(self) -> dict:
        data, model = self.mesh.shape[DATA_AXIS], self.mesh.shape[MODEL_AXIS]
        split_dense = self.split_dense and data > 1
        return partition_specs(self.architecture, split_towers=model > 1, split_dense=split_dense)

    def _state_specs(self) -> TrainState:
        parameters = self._parameter_specs()
        specs = optimizers.state_specs(jax.eval_shape(self._draw_state), parameters)
        return specs._replace(parameters=parameters)

    def _mapped(self, function, inputs, outputs):
        return jax.shard_map(function, mesh=self.mesh, in_specs=inputs, out_specs=outputs)
