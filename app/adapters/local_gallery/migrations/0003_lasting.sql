-- Vectors and kept crops lie in slots, apart from what is said of items: who reads that, at every start for one, does not
-- walk past 8 KiB a row. A slot is never removed: its bytes are overwritten where they lie, and the next vector or crop of
-- its size goes there. SQLite moves rows between pages when rows beside them go, and forgets copies of them in the pages'
-- gaps, where `secure_delete` does not look; these rows never move, so that no copy of a vector or a picture is ever made.
create table slot (
    id integer primary key,
    size integer not null,
    free integer not null,
    bytes blob not null
) strict;
create index slot_free on slot (size) where free;

insert into slot (id, size, free, bytes) select seq, length(vector), 0, vector from item order by seq;
alter table item add column vector_slot integer not null default 0;
update item set vector_slot = seq;
alter table item drop column vector;
alter table item add column crop_slot integer;
insert into slot (id, size, free, bytes)
select seq + (select max(seq) from sqlite_sequence where name = 'item'), length(pixels), 0, pixels from crop order by seq;
update item set crop_slot = seq + (select max(seq) from sqlite_sequence where name = 'item')
where seq in (select seq from crop);
drop table crop;

create trigger item_gone after delete on item begin
    update slot set free = 1, bytes = zeroblob(size) where id in (old.vector_slot, old.crop_slot);
end;
create view vector as select seq, bytes as unit from item join slot on slot.id = vector_slot;
create view crop as select seq, bytes as pixels from item join slot on slot.id = crop_slot;

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

-- A job that told of what was erased stays as the erase left it.
alter table job add column erased_at text;

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
