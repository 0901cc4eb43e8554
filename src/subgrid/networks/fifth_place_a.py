"""Family A of the fifth place of ClimSim's Kaggle competition: the encoder-decoder LSTM in its published sizes."""

from __future__ import annotations

from subgrid.networks.encdec_lstm import EncDecLSTM, EncDecLSTMConfig
from subgrid.networks.registry import architecture


@architecture(
    "fifth_place_a",
    small=EncDecLSTMConfig(hidden=24, layers=2, dropout=0.0, recurrent_out=8, head=0),
    paper=EncDecLSTMConfig(),
    features=EncDecLSTMConfig(dropout=0.07, head=0),
)
class FifthPlaceA(EncDecLSTM):
    """:class:`EncDecLSTM` as it was entered in the competition, with 6 + 8 outputs at 60 levels.

    Size ``paper`` is the base network, for 9 + 16 inputs (18.5 million parameters). Size ``features`` is for the nine
    engineered profiles beside them (``emulator.inputs=fifth_place``), with less dropout and no hidden layer before the
    outputs (18.2 million).
    """
