"""The configuration of a run: frozen dataclasses, overrides by name, YAML in and out.

Every field states its type, range, default and meaning in one place, also those of the other commands' settings: flags,
help and checks are made from it (bounds.py, fields.py). A recipe (daybreak/recipes) is a function that returns a
`Config`; an override is `section.field=value`, from the command line or a YAML file; the run folder holds the resolved
result.
"""

from daybreak.config.check import check as check
from daybreak.config.documentation import documented_fields as documented_fields
from daybreak.config.errors import ConfigError as ConfigError
from daybreak.config.errors import did_you_mean as did_you_mean
from daybreak.config.files import load as load
from daybreak.config.files import save as save
from daybreak.config.overrides import check_name as check_name
from daybreak.config.overrides import field_names as field_names
from daybreak.config.overrides import override as override
from daybreak.config.overrides import override_all as override_all
from daybreak.config.settings import AlignmentConfig as AlignmentConfig
from daybreak.config.settings import BudgetConfig as BudgetConfig
from daybreak.config.settings import Config as Config
from daybreak.config.settings import DataConfig as DataConfig
from daybreak.config.settings import DiffusionConfig as DiffusionConfig
from daybreak.config.settings import DistillConfig as DistillConfig
from daybreak.config.settings import EvaluateConfig as EvaluateConfig
from daybreak.config.settings import GroundingConfig as GroundingConfig
from daybreak.config.settings import ModelConfig as ModelConfig
from daybreak.config.settings import OptimConfig as OptimConfig
from daybreak.config.settings import PerceptualConfig as PerceptualConfig
from daybreak.config.settings import RoutingConfig as RoutingConfig
from daybreak.config.settings import SampleConfig as SampleConfig
from daybreak.config.settings import StageConfig as StageConfig
from daybreak.config.settings import TextConfig as TextConfig
from daybreak.config.settings import TrainConfig as TrainConfig
from daybreak.config.stages import at_stage as at_stage
from daybreak.config.stages import stage_at as stage_at
