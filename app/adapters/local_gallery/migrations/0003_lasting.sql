-- Vectors lie apart: who reads the items' fields, at every start for one, does not walk past 8 KiB a row.
create table vector (
    seq integer primary key references item (seq) on delete cascade,
    unit blob not null
) strict;
insert into vector (seq, unit) select seq, vector from item;
alter table item drop column vector;

-- A collection's revision counts the writes that changed it; an item's is the one that wrote its vector. What is derived
-- from a vector is of the same revision, or is thrown away.
alter table collection add column revision integer not null default 0;
alter table item add column revision integer not null default 0;

-- How long items stay, in days by the server's clock: of the whole collection, and by camera (JSON), which goes first.
alter table collection add column keep_days integer;
alter table collection add column camera_keep_days text not null default '{}';
-- When the item came in, by the server's clock: what retention counts from. Of items that were there before: unknown, so now.
alter table item add column added_at text not null default '1970-01-01T00:00:00.000000+00:00';
update item set added_at = strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now');
create index item_by_age on item (collection_id, added_at);

-- The last merge of a collection, so that it can be undone until the next one: whose items went where.
create table merge (
    collection_id integer primary key references collection (id) on delete cascade,
    person_id text not null,
    into_person_id text not null,
    merged_at text not null,
    seqs text not null
) strict;

-- Append-only. Digests are HMAC-SHA256 under `secret`'s key, 16 bytes each, one after another: who knows an id can ask what
-- happened to it, and no name stands here. hash covers the line and the hash before it.
create table audit (
    seq integer primary key,
    at text not null,
    action text not null,
    collection text not null,
    details text not null,
    items blob not null,
    persons blob not null,
    hash blob not null
) strict;
create table secret (
    name text primary key,
    value blob not null
) strict;

-- Snapshots lie outside the data directory; these are those that were made, so that an erasure can name who still has it.
create table snapshot (
    id text primary key,
    path text not null,
    created_at text not null,
    audit_seq integer not null,
    bytes integer not null,
    sha256 text not null
) strict;
