// SPDX-License-Identifier: MIT
/// @file
/// Attention for long sequences, in time that grows with the number of tokens: features instead of scores
/// (linear_attention, performer), fewer keys (linformer_attention, pooled_attention), and their gradients.
#ifndef HEED_LINEAR_ATTENTION_HPP
#define HEED_LINEAR_ATTENTION_HPP

#include <heed/config.hpp>
#include <heed/linear/feature_map.hpp>
#include <heed/linear/linear_backward.hpp>
#include <heed/linear/linear_forward.hpp>
#include <heed/linear/linear_state.hpp>
#include <heed/linear/linformer.hpp>
#include <heed/linear/performer.hpp>
#include <heed/linear/pool_rows.hpp>
#include <heed/linear/pooled_attention.hpp>

#endif
