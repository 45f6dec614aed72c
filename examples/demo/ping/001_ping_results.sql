CREATE TABLE ping_results (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host varchar(255) NOT NULL,
    result text NOT NULL
);
