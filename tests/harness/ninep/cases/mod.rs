//! The must-pass list. Every function is one case: it gets a fresh server with a fresh directory and says what
//! does not hold.

mod attributes;
mod crowd;
mod directories;
mod files;
mod flush;
mod gob1;
mod keys;
mod locks;
mod names;
mod proxied;
mod session;

use crate::ninep::server::Setup;
use crate::ninep::suite::Case;
use std::time::Duration;

/// Two small disks whose files have the same inode numbers.
const TWO_DISKS: &str = "mkdir small second; mount -t tmpfs -o size=1m none small; \
    mount -t tmpfs -o size=1m none second";
/// A disk with a directory that may grow to 4 MiB.
const QUOTA: &str = "mkdir small; truncate -s 256M ../disk; mkfs.btrfs --quiet ../disk; \
    mount -o loop ../disk small; btrfs quota enable small; \
    btrfs subvolume create small/limited; btrfs qgroup limit 4M small/limited";

fn plain() -> Setup {
    Setup::default()
}

fn impatient() -> Setup {
    Setup { handshake: Duration::from_millis(400), ..Setup::default() }
}

fn few_descriptors() -> Setup {
    Setup { descriptors: Some(40), ..Setup::default() }
}

fn two_disks() -> Setup {
    Setup { mounts: Some(TWO_DISKS), ..Setup::default() }
}

fn quota() -> Setup {
    Setup { mounts: Some(QUOTA), ..Setup::default() }
}

fn with_keys() -> Setup {
    Setup { tls: true, ..Setup::default() }
}

fn over_tcp() -> Setup {
    Setup { tcp: true, ..Setup::default() }
}

macro_rules! cases {
    ($($setup:ident { $($module:ident::$case:ident,)* })*) => {
        &[$($(Case {
            name: concat!(stringify!($module), "::", stringify!($case)),
            setup: $setup,
            run: $module::$case,
        },)*)*]
    };
}

/// Every case.
pub(super) const CASES: &[Case] = cases! {
    plain {
        session::version_resets_the_session,
        session::nothing_is_served_before_a_version,
        session::other_dialects_are_declined_politely,
        session::replies_are_cut_to_msize,
        session::requests_beyond_msize_are_not_taken,
        session::absurd_sizes_end_only_their_connection,
        session::unknown_types_are_answered,
        session::messages_cut_at_every_byte_are_refused,
        session::strings_longer_than_their_message_are_refused,
        session::streams_cut_at_every_byte_harm_nobody,
        session::random_bytes_end_only_their_connection,
        session::a_tag_in_use_is_refused,
        session::tags_come_again_at_once,
        session::a_newfid_in_use_is_refused,
        session::unknown_fids_are_refused,
        session::fids_can_be_reused_at_once,
        session::clunk_frees_the_fid_even_on_error,
        session::remove_always_clunks,
        session::nobody_becomes_another_by_asking,
        flush::flush_cancels_what_waits,
        flush::flush_of_what_is_over_is_answered,
        flush::flush_follows_what_it_cannot_cancel,
        flush::a_blocked_request_delays_no_other,
        flush::many_blocked_requests_delay_no_other,
        flush::clunk_ends_what_waits_on_the_fid,
        flush::version_cancels_what_waits,
        flush::a_client_that_goes_leaves_no_lock_behind,
        flush::pipelined_requests_are_all_answered,
        locks::ranges_exclude_each_other,
        locks::the_holder_is_told,
        locks::a_blocked_lock_is_granted_at_once,
        locks::every_waiter_gets_its_turn,
        locks::ranges_beyond_the_end_of_numbers_are_refused,
        names::names_that_are_no_names_are_refused,
        names::walks_of_names_that_are_no_names_find_nothing,
        names::dotdot_ends_at_the_root,
        names::dotdot_of_a_moved_directory_opens_no_way_out,
        names::a_partial_walk_binds_nothing,
        names::seventeen_names_are_too_many,
        names::names_are_bytes,
        names::names_of_255_bytes_work,
        names::trees_deeper_than_a_path_work,
        names::symbolic_links_are_shown_and_never_followed,
        names::a_link_put_in_a_directorys_place_is_not_followed,
        names::devices_fifos_and_sockets_are_never_opened,
        files::appends_go_to_the_end,
        files::flags_for_the_client_only_are_masked,
        files::access_is_what_was_opened,
        files::create_and_cut_do_what_they_say,
        files::an_open_file_outlives_its_name,
        files::a_rename_replaces_and_disturbs_no_fid,
        files::hard_links_are_one_file,
        files::holes_cost_nothing,
        files::offsets_beyond_2_to_63_are_refused,
        files::fsync_is_answered_by_files_and_directories,
        files::large_writes_and_reads_are_whole,
        files::new_files_get_the_mode_that_was_asked_for,
        attributes::attributes_are_the_files,
        attributes::changes_of_attributes_are_kept,
        attributes::a_refused_change_changes_nothing,
        attributes::qid_versions_change_with_the_content,
        attributes::extended_attributes_are_kept,
        attributes::access_lists_are_kept,
        attributes::attributes_of_any_size_are_bounded,
        attributes::numbers_of_the_file_system_make_sense,
        directories::large_directories_are_listed_once,
        directories::small_pages_lose_nothing,
        directories::cookies_go_on_where_they_were,
        directories::removing_while_listing_misses_nothing,
        directories::entries_say_what_they_are,
        directories::full_and_absent_directories_are_told_apart,
        gob1::plain_sessions_have_no_feed,
        gob1::every_change_is_told_in_order,
        gob1::a_feed_waits_and_holds_up_nobody,
        gob1::odd_tokens_are_refused,
        gob1::what_is_not_kept_any_more_is_said,
        gob1::a_sync_says_how_far_the_disk_is,
        crowd::a_thousand_connections_cost_little,
        crowd::a_hundred_thousand_fids_cost_little,
        crowd::fids_have_a_limit,
        crowd::slow_readers_cost_little,
        crowd::requests_on_their_way_are_bounded,
        crowd::clients_that_vanish_harm_nobody,
        proxied::single_bytes_make_whole_messages,
        proxied::replayed_requests_are_survived,
        proxied::a_cut_inside_a_message_frees_everything,
        proxied::a_lost_reply_blocks_no_other,
        proxied::a_slow_network_keeps_the_order,
        proxied::held_replies_hold_nobody_else,
    }
    impatient { session::a_silent_peer_is_put_out, }
    few_descriptors { crowd::running_out_of_descriptors_passes, }
    two_disks {
        attributes::qid_paths_are_unique,
        files::a_full_disk_is_an_error_and_no_end,
        files::a_disk_that_turns_read_only_is_an_error,
    }
    quota { files::a_spent_quota_is_an_error_and_no_end, }
    with_keys {
        keys::large_files_come_whole_through_keys,
        keys::without_a_key_nothing_is_said,
        keys::half_open_peers_cost_little,
        keys::a_flood_of_handshakes_keeps_nobody_out,
    }
    over_tcp { crowd::clients_that_vanish_over_the_network_harm_nobody, }
};
