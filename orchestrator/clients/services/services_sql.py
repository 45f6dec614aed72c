"""The catalog queries of `services.py`. Text only; names of roles and schemas are bound as arrays.

What is read of services begins with `place`, where a service's name is in the array, from 1, and comes in that order.

Catalogs are read directly: the views citus_tables and citus_shards ask every node on every read. Citus hides shards
from pg_class, so every list of tables is taken from there. Grants to PUBLIC read as those of `public`, a name that no
role can have; others are looked up by oid, because a join may go through all roles for every grant.
"""

from __future__ import annotations

from typing import LiteralString

# MEMBER covers ADMIN OPTION alone from PostgreSQL 16 on; what is needed to act as the role is SET there.
ROLES: LiteralString = """
    SELECT wanted.place, role.rolname AS name, role.rolcanlogin AS can_login, role.rolconnlimit AS connection_limit,
           role.rolsuper AS superuser,
           pg_has_role(current_user, role.oid, 'USAGE')
               AND pg_has_role(current_user, role.oid,
                               CASE WHEN current_setting('server_version_num')::int >= 160000
                                    THEN 'SET' ELSE 'MEMBER' END)
               AS admin_is_member,
           (SELECT substr(line, length('search_path=') + 1)
            FROM pg_catalog.pg_db_role_setting setting, unnest(setting.setconfig) line
            WHERE setting.setrole = role.oid AND line LIKE 'search_path=%%'
              AND setting.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database
                                              WHERE datname = current_database()))
            ORDER BY setting.setdatabase DESC LIMIT 1) AS search_path
    FROM unnest(%s::name[]) WITH ORDINALITY AS wanted (name, place)
    JOIN pg_catalog.pg_roles role ON role.rolname = wanted.name
    ORDER BY 1
"""

SOME_ROLES: LiteralString = """
    SELECT wanted.place FROM unnest(%s::name[]) WITH ORDINALITY AS wanted (name, place)
    JOIN pg_catalog.pg_roles role ON role.rolname = wanted.name
    ORDER BY random() LIMIT %s
"""

SCHEMAS: LiteralString = """
    SELECT wanted.place, space.nspname AS name, owner.rolname AS owner, tenant.colocationid AS colocation_id,
           ARRAY(SELECT CASE acl.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(acl.grantee)::text END
                 FROM aclexplode(space.nspacl) acl WHERE acl.privilege_type = 'USAGE') AS usage
    FROM unnest(%s::name[]) WITH ORDINALITY AS wanted (name, place)
    JOIN pg_catalog.pg_namespace space ON space.nspname = wanted.name
    JOIN pg_catalog.pg_roles owner ON owner.oid = space.nspowner
    LEFT JOIN pg_catalog.pg_dist_schema tenant ON tenant.schemaid = space.oid
    ORDER BY 1
"""

DEFAULT_GRANTS: LiteralString = """
    SELECT wanted.place, space.nspname AS schema,
           CASE acl.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(acl.grantee)::text END AS grantee,
           array_agg(acl.privilege_type::text) AS privileges
    FROM unnest(%s::name[]) WITH ORDINALITY AS wanted (name, place)
    JOIN pg_catalog.pg_namespace space ON space.nspname = wanted.name
    JOIN pg_catalog.pg_default_acl acls
      ON acls.defaclnamespace = space.oid AND acls.defaclrole = space.nspowner AND acls.defaclobjtype = 'r'
    CROSS JOIN aclexplode(acls.defaclacl) acl
    GROUP BY 1, 2, 3
    ORDER BY 1
"""

# Single-shard tables have partmethod n like reference tables, whose repmodel is t, and like local tables that Citus
# tracks, whose colocation id is 0. Tables of extensions come and go with them.
TABLES: LiteralString = """
    SELECT wanted.place, space.nspname AS schema, class.relname AS name, owner.rolname AS owner,
           CASE WHEN tenant.schemaid IS NOT NULL THEN 'schema'
                WHEN part.logicalrelid IS NULL OR (part.partmethod = 'n' AND part.colocationid = 0) THEN 'local'
                WHEN part.partmethod = 'n' AND part.repmodel = 't' THEN 'reference'
                ELSE 'distributed' END AS kind,
           (SELECT attname::text FROM pg_catalog.pg_attribute
            WHERE attrelid = class.oid AND attnum = substring(part.partkey FROM ':varattno (\\d+)')::int2)
               AS distribution_column,
           ARRAY(SELECT attname::text FROM pg_catalog.pg_attribute
                 WHERE attrelid = class.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum) AS columns,
           EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhrelid = class.oid)
               OR (class.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhparent = class.oid))
               AS inherits,
           ARRAY(SELECT tgname::text FROM pg_catalog.pg_trigger
                 WHERE tgrelid = class.oid AND NOT tgisinternal AND tgname NOT LIKE 'truncate_trigger_%%') AS triggers
    FROM unnest(%s::name[]) WITH ORDINALITY AS wanted (name, place)
    JOIN pg_catalog.pg_namespace space ON space.nspname = wanted.name
    JOIN pg_catalog.pg_class class ON class.relnamespace = space.oid
    JOIN pg_catalog.pg_roles owner ON owner.oid = class.relowner
    LEFT JOIN pg_catalog.pg_dist_partition part ON part.logicalrelid = class.oid
    LEFT JOIN pg_catalog.pg_dist_schema tenant ON tenant.schemaid = space.oid
    WHERE class.relkind IN ('r', 'p') AND NOT class.relispartition
      AND class.relpersistence <> 't'
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend
                      WHERE classid = 'pg_catalog.pg_class'::regclass AND objid = class.oid AND deptype = 'e')
    ORDER BY 1, 3
"""

UNIQUE_KEYS: LiteralString = """
    SELECT wanted.place, space.nspname AS schema, class.relname AS "table", index_class.relname AS name,
           index.indisprimary AS primary,
           ARRAY(SELECT attname::text FROM pg_catalog.pg_attribute
                 WHERE attrelid = class.oid AND attnum > 0
                   AND attnum = ANY((index.indkey::int2[])[0:index.indnkeyatts - 1])) AS columns
    FROM unnest(%s::name[]) WITH ORDINALITY AS wanted (name, place)
    JOIN pg_catalog.pg_namespace space ON space.nspname = wanted.name
    JOIN pg_catalog.pg_class class ON class.relnamespace = space.oid
    JOIN pg_catalog.pg_index index ON index.indrelid = class.oid
    JOIN pg_catalog.pg_class index_class ON index_class.oid = index.indexrelid
    WHERE (index.indisunique OR index.indisexclusion) AND NOT class.relispartition
    ORDER BY 1, 3, 4
"""

FOREIGN_KEYS: LiteralString = """
    SELECT wanted.place, space.nspname AS schema, class.relname AS "table", con.conname AS name,
           target_space.nspname AS to_schema, target.relname AS to_table,
           ARRAY(SELECT attname::text FROM unnest(con.conkey) WITH ORDINALITY key (attnum, place)
                 JOIN pg_catalog.pg_attribute USING (attnum)
                 WHERE attrelid = con.conrelid ORDER BY key.place) AS columns,
           coalesce(part.partmethod = 'n' AND part.repmodel = 't', false) AS to_reference
    FROM unnest(%s::name[]) WITH ORDINALITY AS wanted (name, place)
    JOIN pg_catalog.pg_namespace space ON space.nspname = wanted.name
    JOIN pg_catalog.pg_class class ON class.relnamespace = space.oid
    JOIN pg_catalog.pg_constraint con ON con.conrelid = class.oid
    JOIN pg_catalog.pg_class target ON target.oid = con.confrelid
    JOIN pg_catalog.pg_namespace target_space ON target_space.oid = target.relnamespace
    LEFT JOIN pg_catalog.pg_dist_partition part ON part.logicalrelid = con.confrelid
    WHERE con.contype = 'f' AND con.conparentid = 0
    ORDER BY 1, 3, 4
"""

# Tables of other schemas with a foreign key into one of the schemas.
REFERENCED_FROM: LiteralString = """
    SELECT DISTINCT wanted.place, space.nspname AS schema, other_space.nspname AS from_schema,
           other.relname AS from_table
    FROM unnest(%s::name[]) WITH ORDINALITY AS wanted (name, place)
    JOIN pg_catalog.pg_namespace space ON space.nspname = wanted.name
    JOIN pg_catalog.pg_class class ON class.relnamespace = space.oid
    JOIN pg_catalog.pg_constraint con ON con.confrelid = class.oid
    JOIN pg_catalog.pg_class other ON other.oid = con.conrelid
    JOIN pg_catalog.pg_namespace other_space ON other_space.oid = other.relnamespace
    WHERE con.contype = 'f' AND con.conparentid = 0 AND other_space.oid <> space.oid
    ORDER BY 1
"""

TABLE_GRANTS: LiteralString = """
    SELECT wanted.place, space.nspname AS schema, class.relname AS "table",
           CASE acl.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(acl.grantee)::text END AS grantee,
           array_agg(acl.privilege_type::text) AS privileges
    FROM unnest(%s::name[]) WITH ORDINALITY AS wanted (name, place)
    JOIN pg_catalog.pg_namespace space ON space.nspname = wanted.name
    JOIN pg_catalog.pg_class class ON class.relnamespace = space.oid
    CROSS JOIN aclexplode(class.relacl) acl
    WHERE class.relkind IN ('r', 'p') AND acl.grantee <> class.relowner
    GROUP BY 1, 2, 3, 4
    ORDER BY 1
"""

BOOKKEEPING: LiteralString = """
    SELECT to_regclass('orchestrator.migration') IS NOT NULL AND to_regclass('orchestrator.kept_setting') IS NOT NULL
"""

MIGRATIONS: LiteralString = """
    SELECT wanted.place, ran.service, ran.name, ran.sha256
    FROM unnest(%s::text[]) WITH ORDINALITY AS wanted (name, place)
    JOIN orchestrator.migration ran ON ran.service = wanted.name
    ORDER BY 1, ran.applied_at, ran.name
"""

# What the admin owns in schemas that are handed over to services' roles; sequences of columns follow their table.
OWNED_BY_ADMIN: LiteralString = """
    SELECT space.nspname AS schema, class.relname AS name,
           CASE class.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
                ELSE 'TABLE' END AS kind
    FROM pg_catalog.pg_class class
    JOIN pg_catalog.pg_namespace space ON space.oid = class.relnamespace
    WHERE space.nspname = ANY(%s) AND class.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
      AND class.relowner = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend
                      WHERE classid = 'pg_catalog.pg_class'::regclass AND objid = class.oid
                        AND (deptype = 'e' OR (class.relkind = 'S' AND deptype IN ('a', 'i'))))
    ORDER BY space.nspname, class.relkind = 'S', class.relname
"""

# Sequences that the defaults of tables use; those of identity columns Citus makes with their table.
SEQUENCES_OF_DEFAULTS: LiteralString = """
    SELECT DISTINCT space.nspname AS schema, sequence.relname AS name
    FROM pg_catalog.pg_depend link
    JOIN pg_catalog.pg_class sequence ON sequence.oid = link.refobjid AND sequence.relkind = 'S'
    JOIN pg_catalog.pg_namespace space ON space.oid = sequence.relnamespace
    WHERE link.classid = 'pg_catalog.pg_attrdef'::regclass AND link.refclassid = 'pg_catalog.pg_class'::regclass
      AND space.nspname = ANY(%s)
    ORDER BY 1, 2
"""
