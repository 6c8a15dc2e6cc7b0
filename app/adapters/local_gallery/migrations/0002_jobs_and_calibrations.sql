-- seq is the order in which jobs were made. params and result are JSON.
-- The result comes last: a list of jobs does not read it.
create table job (
    seq integer primary key autoincrement,
    id text not null unique,
    kind text not null,
    params text not null,
    state text not null,
    created_at text not null,
    started_at text,
    ended_at text,
    done integer not null,
    total integer not null,
    note text not null,
    error_code text,
    error_detail text,
    result text
) strict;

-- One for each kind of search, by item or by person. data is JSON.
create table calibration (
    collection_id integer not null references collection (id) on delete cascade,
    search_by text not null,
    fingerprint text not null,
    items_count integer not null,
    created_at text not null,
    data text not null,
    primary key (collection_id, search_by)
) strict;
