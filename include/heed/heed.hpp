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
#include <heed/mask/algebra.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/dense.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/window.hpp>
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
