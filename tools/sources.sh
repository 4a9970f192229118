# shellcheck shell=bash disable=SC2034
# Where the data and the pretrained model are published. Sourced.
goemotions_url=${EMBER_GOEMOTIONS_URL:-https://raw.githubusercontent.com/google-research/google-research/master/goemotions/data}
tinybert_url=${EMBER_TINYBERT_URL:-https://huggingface.co/huawei-noah/TinyBERT_General_4L_312D/resolve/main}
