// SPDX-License-Identifier: MIT
/// @file
/// All of Heed: attention = mix(select(mask(score(q, k))), v) over Eigen matrices.
#ifndef HEED_HEED_HPP
#define HEED_HEED_HPP

#include <heed/attention.hpp>
#include <heed/attention_backward.hpp>
#include <heed/attention_double_backward.hpp>
#include <heed/attention_jvp.hpp>
#include <heed/attention_weights.hpp>
#include <heed/core/when.hpp>
#include <heed/dual.hpp>
#include <heed/functions.hpp>
#include <heed/gradients.hpp>
#include <heed/layout/heads.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/linear_attention.hpp>
#include <heed/mask/algebra.hpp>
#include <heed/mask/bigbird.hpp>
#include <heed/mask/block_sparse.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/chunked.hpp>
#include <heed/mask/dense.hpp>
#include <heed/mask/dilated.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/global_tokens.hpp>
#include <heed/mask/in_heads.hpp>
#include <heed/mask/key_lists.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/longformer.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/pattern_picture.hpp>
#include <heed/mask/prefix.hpp>
#include <heed/mask/random_blocks.hpp>
#include <heed/mask/strided.hpp>
#include <heed/mask/visible_pairs.hpp>
#include <heed/mask/window.hpp>
#include <heed/mask/windows.hpp>
#include <heed/merge.hpp>
#include <heed/position/alibi.hpp>
#include <heed/position/rotary.hpp>
#include <heed/position/sinusoidal.hpp>
#include <heed/position/t5_buckets.hpp>
#include <heed/random.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/score_with.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/dropout.hpp>
#include <heed/select/sink.hpp>
#include <heed/select/softmax.hpp>
#include <heed/tangents.hpp>

#endif
