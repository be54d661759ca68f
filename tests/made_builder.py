"""What builders of tfds have in common that tests write published features with."""

import tensorflow_datasets as tfds


class MadeBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A builder of one split, `SPLIT`, whose features are those of `features()`."""

    code_path = None
    SPLIT: str

    def features(self):
        """The features by name."""
        raise NotImplementedError

    def _info(self):
        features = tfds.features.FeaturesDict(self.features())
        return tfds.core.DatasetInfo(builder=self, description="", features=features)

    def _split_generators(self, dl_manager):
        return {self.SPLIT: self._generate_examples()}
