-- Instants are RFC 3339 in UTC with six digits behind the second, so that their text sorts as they do.
create table collection (
    id integer primary key,
    name text not null unique,
    fingerprint text not null,
    dim integer not null,
    keep_crops integer not null,
    created_at text not null
) strict;

-- seq is the order in which items were first added; it decides ties and pages, and is never given out twice.
-- vector is a unit vector, little-endian float32; the raw norm stands beside it, since centroids are means of raw outputs.
-- The vector comes last: a page that is read for the columns before it does not read the vector.
create table item (
    seq integer primary key autoincrement,
    collection_id integer not null references collection (id) on delete cascade,
    id text not null,
    sha256 text not null,
    person_id text,
    camera_id text,
    captured_at text,
    source text,
    attributes text not null,
    norm real not null,
    vector blob not null,
    unique (collection_id, id)
) strict;

-- For pages in the order added: within one collection an index ends in seq.
create index item_by_order on item (collection_id);
create index item_by_person on item (collection_id, person_id);

-- Only of collections that keep crops: 256 x 128 x 3 bytes as the model saw them, deflated.
create table crop (
    seq integer primary key references item (seq) on delete cascade,
    pixels blob not null
) strict;
