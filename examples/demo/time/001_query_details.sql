CREATE TABLE zones (
    name text PRIMARY KEY
);

CREATE TABLE query_details (
    client_id bigint NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    zone text NOT NULL REFERENCES zones,
    ip_address inet NOT NULL,
    query_time timestamp NOT NULL,
    PRIMARY KEY (client_id, id)
);
