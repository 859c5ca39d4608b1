"""Update rules besides that of 2012: those of optax by their names, and rules of the user's own."""

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping

import optax

from alexnet_jax.runtime.errors import UserError

OWN_RULES = ("momentum", "lars")  # of training/optimizer.py
# These measure whole arrays, of which a device has a part in the layouts towers and hybrid.
OF_WHOLE_ARRAYS = ("adafactor", "fromage", "lamb", "novograd")
# They need the loss as a function, a learning rate that is a number, or a key; or are deprecated.
_UNFIT = ("lbfgs", "rprop", "sm3", "noisy_sgd", "optimistic_adam")
# (learning_rate, **arguments) -> optax.GradientTransformation; learning_rate is a function of the
# step.
Rule = Callable
_registered: dict[str, Rule] = {}


def register_optimizer(name: str) -> Callable[[Rule], Rule]:
    """A decorator: optimizer.rule=NAME then is the rule that the function below makes.

    The function is called with learning_rate=, a function of the step, with what
    optimizer.arguments has, and with weight_decay= and momentum= if it has parameters of these
    names. It returns an optax.GradientTransformation, whose updates are added to the parameters.
    UserError where the name is one of this project's or of optax's.
    """
    if name in OWN_RULES or name in optax_names():
        raise UserError(f"An update rule can't be called {name}, which exists already: rename it.")

    def register(rule: Rule) -> Rule:
        _registered[name] = rule
        return rule

    return register


def optax_names() -> list[str]:
    """The names of optax's update rules: its functions that take a learning rate."""
    return [
        name
        for name, function in vars(optax).items()
        if (inspect.isfunction(function) or isinstance(function, functools.partial))
        and not name.startswith(("_", "scale_by"))
        and name not in _UNFIT
        and "learning_rate" in inspect.signature(function).parameters
    ]


def names() -> list[str]:
    """The names of all rules that optimizer.rule may have."""
    return sorted({*OWN_RULES, *optax_names(), *_registered})


def check_name(name: str) -> None:
    """UserError for a name that is none of `names`."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"optimizer.rule is '{name}': {hint}Expected one of {', '.join(names())}.")


def make_rule(
    name: str,
    learning_rate: optax.Schedule,
    *,
    weight_decay: float,
    momentum: float,
    arguments: Mapping[str, object],
) -> optax.GradientTransformation:
    """The rule of that name, which must be one of `names` but no OWN_RULES.

    It gets `weight_decay` and `momentum` if it has parameters of these names; else the decay is
    added to the gradient, as in 2012. UserError for `arguments` that it does not take.
    """
    function = _registered.get(name) or getattr(optax, name)
    parameters = inspect.signature(function).parameters
    given = {"weight_decay": weight_decay, "momentum": momentum}
    given = {key: value for key, value in given.items() if key in parameters}
    try:
        rule = function(learning_rate=learning_rate, **given | dict(arguments))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"optimizer.rule={name} can't be made with optimizer.arguments={dict(arguments)} "
            f"({error}): expected some of {', '.join(parameters)}."
        ) from error
    if weight_decay and "weight_decay" not in parameters:
        return optax.chain(optax.add_decayed_weights(weight_decay), rule)
    return rule
