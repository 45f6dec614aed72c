CREATE TABLE query_details (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ip_address inet NOT NULL,
    query_time timestamp NOT NULL
);
