"""Settings of the three stages of curation: `measure`, `compare` and `curate`."""

from __future__ import annotations

from pydantic import Field

from lmcore.config import Params, Runtime
from lmcore.curate.decontaminate import DecontaminateParams
from lmcore.curate.gates import GatesParams
from lmcore.curate.labelled import ClassifierParams
from lmcore.curate.language import LanguageParams
from lmcore.curate.licences import LicencesParams
from lmcore.curate.mix import MixParams
from lmcore.curate.names import BESIDE
from lmcore.curate.privacy import PrivacyParams
from lmcore.curate.reference import ReferenceParams
from lmcore.curate.rules import RulesParams
from lmcore.curate.score import ComplexityName, ScoreName
from lmcore.curate.spelling import NormaliseParams
from lmcore.curate.split import SplitParams
from lmcore.curate.substrings import SubstringParams


class MeasureParams(Params):
    """How a text is spelled and what is masked before it is measured."""

    normalise: NormaliseParams = Field(default=NormaliseParams(), description="One spelling for each language.")
    language: LanguageParams = Field(default=LanguageParams(), description="How languages are found.")
    privacy: PrivacyParams = Field(default=PrivacyParams(), description="What is masked.")


class MeasureRuntime(Runtime):
    """How the work is cut."""

    workers: int = Field(default=0, ge=0, le=256, description="Processes that measure; 0: one for every processor.")


class LinesParams(Params):
    """Which lines are boilerplate: those that stand in many texts."""

    min_documents: int = Field(default=10, ge=2, description="Fewest texts that have a line of boilerplate.")


class CompareParams(Params):
    """Which texts are alike."""

    min_jaccard: float = Field(
        default=0.7,
        ge=0.5,  # less alike ones are not found, see `minhash`
        le=1,
        description="Texts that share this much of their word 5-shingles are near-duplicates.",
    )

    boilerplate: LinesParams = Field(default=LinesParams(), description="Which lines are boilerplate.")
    reference: ReferenceParams = Field(
        default=ReferenceParams(), description="The texts that others are compared with, for the signal reference_bits."
    )
    classifier: ClassifierParams = Field(
        default=ClassifierParams(), description="A learned quality, for the signal classifier_quality."
    )

    @property
    def computed(self) -> tuple[str, ...]:
        """The signals that comparing leaves."""
        asked = {"reference_bits": bool(self.reference.sources), "classifier_quality": self.classifier.wanted}
        return tuple(name for name in BESIDE if asked.get(name, True))


class CompareRuntime(Runtime):
    """How much may be held."""

    memory_mib: int = Field(
        default=512,
        ge=64,
        description="MiB that comparing may use beside the program itself, and 100 to 250 bytes each text and pair; "
        "less than 512 saves little: templates take 256 and the texts looked at some 100.",
    )


class DuplicatesParams(Params):
    """Which of texts that are alike stays."""

    trusted: tuple[str, ...] = Field(
        default=(), description="Sources whose copy of a text is preferred, the most trusted first."
    )


class BoilerplateParams(Params):
    """What is done with lines that stand in many texts."""

    remove: bool = Field(default=False, description="Take them out of texts; code and what has turns is left alone.")
    min_left_words: int = Field(default=20, ge=0, description="A text that has fewer words left is dropped.")


class CurateParams(Params):
    """What is kept, how it is scored and split, and the least a corpus must have."""

    score: ScoreName = Field(default="v2", description="Name of the formula behind quality.")
    complexity: ComplexityName = Field(default="v2", description="Name of the formula behind complexity.")
    licences: LicencesParams = Field(default=LicencesParams(), description="Which licences are good enough.")
    rules: RulesParams = Field(default=RulesParams(), description="Changes to the packaged rules.")
    duplicates: DuplicatesParams = Field(default=DuplicatesParams(), description="Which of several copies stays.")
    split: SplitParams = Field(default=SplitParams(), description="Shares held out for validation and test.")
    boilerplate: BoilerplateParams = Field(default=BoilerplateParams(), description="Lines that stand in many texts.")
    substrings: SubstringParams = Field(default=SubstringParams(), description="Long repeats.")
    decontaminate: DecontaminateParams = Field(
        default=DecontaminateParams(), description="What training text shares with held-out text."
    )
    mix: MixParams = Field(default=MixParams(), description="How often a text is learnt from.")
    gates: GatesParams = Field(default=GatesParams(), description="The least a corpus must have.")


class CurateRuntime(Runtime):
    """How much may be held."""

    memory_mib: int = Field(default=512, ge=64, description="MiB for the index of what is held out.")
