/*
 * The catalog tables: their names and columns, "name:type" each, and who fills them. The columns of
 * pg_catalog and information_schema are PostgreSQL 15's, since clients ask for them by name; types
 * SQL users cannot do anything with here (ACLs, node trees, arrays) are text. A table without a
 * filler is empty: there are no such objects. tableoid, a system column in PostgreSQL, is an
 * ordinary one of the tables in which psql asks for it.
 */
#include "ctrl/adapter/coord/virtual_internal.h"

const struct virtual_spec virtual_specs[] = {
    /* Users cannot define aggregates; psql \da joins it. */
    {"pg_catalog", "pg_aggregate", 14001,
     "aggfnoid:oid aggkind:char aggnumdirectargs:int2 aggtransfn:oid aggfinalfn:oid "
     "aggcombinefn:oid aggserialfn:oid aggdeserialfn:oid aggmtransfn:oid "
     "aggminvtransfn:oid aggmfinalfn:oid aggfinalextra:bool aggmfinalextra:bool "
     "aggfinalmodify:char aggmfinalmodify:char aggsortop:oid aggtranstype:oid "
     "aggtransspace:int4 aggmtranstype:oid aggmtransspace:int4 agginitval:text "
     "aggminitval:text",
     NULL},
    /* How relations are stored: psql \d+ prints it. */
    {"pg_catalog", "pg_am", 14002,
     "oid:oid amname:name amhandler:oid amtype:char",
     virtual_pg_am},
    /* No operator classes, so no operators in them. */
    {"pg_catalog", "pg_amop", 14003,
     "oid:oid amopfamily:oid amoplefttype:oid amoprighttype:oid amopstrategy:int2 "
     "amoppurpose:char amopopr:oid amopmethod:oid amopsortfamily:oid",
     NULL},
    /* Defaults, as SQL text rather than a node tree: pg_get_expr gives it back. */
    {"pg_catalog", "pg_attrdef", 14004,
     "oid:oid adrelid:oid adnum:int2 adbin:text",
     virtual_pg_attrdef},
    /* Columns; the heart of \d and of every driver's getColumns. */
    {"pg_catalog", "pg_attribute", 1249,
     "attrelid:oid attname:name atttypid:oid attstattarget:int4 attlen:int2 "
     "attnum:int2 attndims:int4 attcacheoff:int4 atttypmod:int4 attbyval:bool "
     "attalign:char attstorage:char attcompression:char attnotnull:bool atthasdef:bool "
     "atthasmissing:bool attidentity:char attgenerated:char attisdropped:bool "
     "attislocal:bool attinhcount:int4 attcollation:oid attacl:text attoptions:text "
     "attfdwoptions:text attmissingval:text",
     virtual_pg_attribute},
    /* No role is a member of another: \du asks. */
    {"pg_catalog", "pg_auth_members", 14005,
     "roleid:oid member:oid grantor:oid admin_option:bool",
     NULL},
    /* Roles, with passwords never shown. */
    {"pg_catalog", "pg_authid", 1260,
     "oid:oid rolname:name rolsuper:bool rolinherit:bool rolcreaterole:bool "
     "rolcreatedb:bool rolcanlogin:bool rolreplication:bool rolbypassrls:bool "
     "rolconnlimit:int4 rolpassword:text rolvaliduntil:timestamptz",
     virtual_pg_authid},
    /* Nothing can be installed. */
    {"pg_catalog", "pg_available_extensions", 14006,
     "name:name default_version:text installed_version:text comment:text",
     NULL},
    /* Casts are the planner's business; \dC finds none. */
    {"pg_catalog", "pg_cast", 14007,
     "oid:oid castsource:oid casttarget:oid castfunc:oid castcontext:char "
     "castmethod:char",
     NULL},
    /* Relations and indexes. */
    {"pg_catalog", "pg_class", 1259,
     "oid:oid relname:name relnamespace:oid reltype:oid reloftype:oid relowner:oid "
     "relam:oid relfilenode:oid reltablespace:oid relpages:int4 reltuples:float4 "
     "relallvisible:int4 reltoastrelid:oid relhasindex:bool relisshared:bool "
     "relpersistence:char relkind:char relnatts:int2 relchecks:int2 relhasrules:bool "
     "relhastriggers:bool relhassubclass:bool relrowsecurity:bool "
     "relforcerowsecurity:bool relispopulated:bool relreplident:char "
     "relispartition:bool relrewrite:oid relfrozenxid:oid relminmxid:oid relacl:text "
     "reloptions:text[] relpartbound:text",
     virtual_pg_class},
    /* Texts are compared by bytes: "C" under two names. */
    {"pg_catalog", "pg_collation", 14008,
     "oid:oid collname:name collnamespace:oid collowner:oid collprovider:char "
     "collisdeterministic:bool collencoding:int4 collcollate:text collctype:text "
     "colliculocale:text collversion:text",
     virtual_pg_collation},
    /* Only NOT NULL exists, which PostgreSQL 15 keeps in pg_attribute. */
    {"pg_catalog", "pg_constraint", 2606,
     "oid:oid tableoid:oid conname:name connamespace:oid contype:char condeferrable:bool "
     "condeferred:bool convalidated:bool conrelid:oid contypid:oid conindid:oid "
     "conparentid:oid confrelid:oid confupdtype:char confdeltype:char "
     "confmatchtype:char conislocal:bool coninhcount:int4 connoinherit:bool "
     "conkey:text confkey:text conpfeqop:text conppeqop:text conffeqop:text "
     "confdelsetcols:text conexclop:text conbin:text",
     NULL},
    /* Everything is UTF-8. */
    {"pg_catalog", "pg_conversion", 14009,
     "oid:oid conname:name connamespace:oid conowner:oid conforencoding:int4 "
     "contoencoding:int4 conproc:oid condefault:bool",
     NULL},
    /* Cursors are a session's own and not listed. */
    {"pg_catalog", "pg_cursors", 14010,
     "name:text statement:text is_holdable:bool is_binary:bool is_scrollable:bool "
     "creation_time:timestamptz",
     NULL},
    /* \l. */
    {"pg_catalog", "pg_database", 1262,
     "oid:oid datname:name datdba:oid encoding:int4 datlocprovider:char "
     "datistemplate:bool datallowconn:bool datconnlimit:int4 datfrozenxid:oid "
     "datminmxid:oid dattablespace:oid datcollate:text datctype:text daticulocale:text "
     "datcollversion:text datacl:text",
     virtual_pg_database},
    /* No settings a database or role. */
    {"pg_catalog", "pg_db_role_setting", 14011,
     "setdatabase:oid setrole:oid setconfig:text",
     NULL},
    /* No rights. */
    {"pg_catalog", "pg_default_acl", 14012,
     "oid:oid defaclrole:oid defaclnamespace:oid defaclobjtype:char defaclacl:text",
     NULL},
    /* What is defined over what, for tools that draw it. */
    {"pg_catalog", "pg_depend", 14013,
     "classid:oid objid:oid objsubid:int4 refclassid:oid refobjid:oid refobjsubid:int4 "
     "deptype:char",
     virtual_pg_depend},
    /* COMMENT ON. */
    {"pg_catalog", "pg_description", 2609,
     "objoid:oid classoid:oid objsubid:int4 description:text",
     virtual_pg_description},
    /* No enumerated types. */
    {"pg_catalog", "pg_enum", 14014,
     "oid:oid enumtypid:oid enumsortorder:float4 enumlabel:name",
     NULL},
    /* No triggers of any sort. */
    {"pg_catalog", "pg_event_trigger", 14015,
     "oid:oid evtname:name evtevent:name evtowner:oid evtfoid:oid evtenabled:char "
     "evttags:text",
     NULL},
    /* psql \dx and pgAdmin ask. */
    {"pg_catalog", "pg_extension", 14016,
     "oid:oid extname:name extowner:oid extnamespace:oid extrelocatable:bool "
     "extversion:text extconfig:text extcondition:text",
     NULL},
    /* The pg_foreign_ tables stay empty: sources are objects of their own. */
    {"pg_catalog", "pg_foreign_data_wrapper", 14017,
     "oid:oid fdwname:name fdwowner:oid fdwhandler:oid fdwvalidator:oid fdwacl:text "
     "fdwoptions:text",
     NULL},
    /* \des. */
    {"pg_catalog", "pg_foreign_server", 14018,
     "oid:oid srvname:name srvowner:oid srvfdw:oid srvtype:text srvversion:text "
     "srvacl:text srvoptions:text",
     NULL},
    /* \d joins it for relations of kind f. */
    {"pg_catalog", "pg_foreign_table", 14019,
     "ftrelid:oid ftserver:oid ftoptions:text",
     NULL},
    /* No groups. */
    {"pg_catalog", "pg_group", 14020,
     "groname:name grosysid:oid grolist:text",
     NULL},
    /* indkey is the text of an int2vector. */
    {"pg_catalog", "pg_index", 2610,
     "indexrelid:oid indrelid:oid indnatts:int2 indnkeyatts:int2 indisunique:bool "
     "indnullsnotdistinct:bool indisprimary:bool indisexclusion:bool indimmediate:bool "
     "indisclustered:bool indisvalid:bool indcheckxmin:bool indisready:bool "
     "indislive:bool indisreplident:bool indkey:text indcollation:text indclass:text "
     "indoption:text indexprs:text indpred:text",
     virtual_pg_index},
    /* The readable form of pg_index. */
    {"pg_catalog", "pg_indexes", 14021,
     "schemaname:name tablename:name indexname:name tablespace:name indexdef:text",
     virtual_pg_indexes},
    /* No inheritance, no partitions: \d asks about both. */
    {"pg_catalog", "pg_inherits", 14022,
     "inhrelid:oid inhparent:oid inhseqno:int4 inhdetachpending:bool",
     NULL},
    /* One, so that pg_proc.prolang finds something. */
    {"pg_catalog", "pg_language", 14023,
     "oid:oid tableoid:oid lanname:name lanowner:oid lanispl:bool lanpltrusted:bool "
     "lanplcallfoid:oid laninline:oid lanvalidator:oid lanacl:text",
     virtual_pg_language},
    /* Nothing locks for longer than a statement. */
    {"pg_catalog", "pg_locks", 14024,
     "locktype:text database:oid relation:oid page:int4 tuple:int2 virtualxid:text "
     "transactionid:oid classid:oid objid:oid objsubid:int2 virtualtransaction:text "
     "pid:int4 mode:text granted:bool fastpath:bool waitstart:timestamptz",
     NULL},
    /* Materialized views. */
    {"pg_catalog", "pg_matviews", 14025,
     "schemaname:name matviewname:name matviewowner:name tablespace:name "
     "hasindexes:bool ispopulated:bool definition:text",
     virtual_pg_matviews},
    /* Schemas; \dn. */
    {"pg_catalog", "pg_namespace", 2615,
     "oid:oid nspname:name nspowner:oid nspacl:text",
     virtual_pg_namespace},
    /* Index keys have no operator classes. */
    {"pg_catalog", "pg_opclass", 14026,
     "oid:oid tableoid:oid opcmethod:oid opcname:name opcnamespace:oid opcowner:oid opcfamily:oid "
     "opcintype:oid opcdefault:bool opckeytype:oid",
     NULL},
    /* Operators are the planner's business; \do finds none. */
    {"pg_catalog", "pg_operator", 14027,
     "oid:oid oprname:name oprnamespace:oid oprowner:oid oprkind:char oprcanmerge:bool "
     "oprcanhash:bool oprleft:oid oprright:oid oprresult:oid oprcom:oid oprnegate:oid "
     "oprcode:oid oprrest:oid oprjoin:oid",
     NULL},
    /* As pg_opclass. */
    {"pg_catalog", "pg_opfamily", 14028,
     "oid:oid tableoid:oid opfmethod:oid opfname:name opfnamespace:oid opfowner:oid",
     NULL},
    /* \d joins it for relations of kind p. */
    {"pg_catalog", "pg_partitioned_table", 14029,
     "partrelid:oid partstrat:char partnatts:int2 partdefid:oid partattrs:text "
     "partclass:text partcollation:text partexprs:text",
     NULL},
    /* The readable form of pg_policy. */
    {"pg_catalog", "pg_policies", 14030,
     "schemaname:name tablename:name policyname:name permissive:text roles:text "
     "cmd:text qual:text with_check:text",
     NULL},
    /* No row security: \d asks. */
    {"pg_catalog", "pg_policy", 14031,
     "oid:oid polname:name polrelid:oid polcmd:char polpermissive:bool polroles:text "
     "polqual:text polwithcheck:text",
     NULL},
    /* A session's own, and not listed. */
    {"pg_catalog", "pg_prepared_statements", 14032,
     "name:text statement:text prepare_time:timestamptz parameter_types:text "
     "from_sql:bool generic_plans:int8 custom_plans:int8",
     NULL},
    /* Functions one can call by name; \df. */
    {"pg_catalog", "pg_proc", 1255,
     "oid:oid proname:name pronamespace:oid proowner:oid prolang:oid procost:float4 "
     "prorows:float4 provariadic:oid prosupport:oid prokind:char prosecdef:bool "
     "proleakproof:bool proisstrict:bool proretset:bool provolatile:char "
     "proparallel:char pronargs:int2 pronargdefaults:int2 prorettype:oid "
     "proargtypes:text proallargtypes:text proargmodes:text proargnames:text "
     "proargdefaults:text protrftypes:text prosrc:text probin:text prosqlbody:text "
     "proconfig:text proacl:text",
     virtual_pg_proc},
    /* No logical replication out: \d asks whether a table is published. */
    {"pg_catalog", "pg_publication", 14033,
     "oid:oid pubname:name pubowner:oid puballtables:bool pubinsert:bool "
     "pubupdate:bool pubdelete:bool pubtruncate:bool pubviaroot:bool",
     NULL},
    /* As pg_publication. */
    {"pg_catalog", "pg_publication_namespace", 14034,
     "oid:oid pnpubid:oid pnnspid:oid",
     NULL},
    /* As pg_publication. */
    {"pg_catalog", "pg_publication_rel", 14035,
     "oid:oid prpubid:oid prrelid:oid prqual:text prattrs:text",
     NULL},
    /* As pg_publication. */
    {"pg_catalog", "pg_publication_tables", 14036,
     "pubname:name schemaname:name tablename:name attnames:text rowfilter:text",
     NULL},
    /* No range types. */
    {"pg_catalog", "pg_range", 14037,
     "rngtypid:oid rngsubtype:oid rngmultitypid:oid rngcollation:oid rngsubopc:oid "
     "rngcanonical:oid rngsubdiff:oid",
     NULL},
    /* No replication. */
    {"pg_catalog", "pg_replication_slots", 14038,
     "slot_name:name plugin:name slot_type:text datoid:oid database:name "
     "temporary:bool active:bool active_pid:int4 xmin:oid catalog_xmin:oid "
     "restart_lsn:text confirmed_flush_lsn:text wal_status:text safe_wal_size:int8 "
     "two_phase:bool",
     NULL},
    /* Views are kept as text: \d asks for rules. */
    {"pg_catalog", "pg_rewrite", 14039,
     "oid:oid tableoid:oid rulename:name ev_class:oid ev_type:char ev_enabled:char is_instead:bool "
     "ev_qual:text ev_action:text",
     NULL},
    /* pg_authid without passwords, in PostgreSQL's own order of columns. */
    {"pg_catalog", "pg_roles", 14040,
     "rolname:name rolsuper:bool rolinherit:bool rolcreaterole:bool rolcreatedb:bool "
     "rolcanlogin:bool rolreplication:bool rolconnlimit:int4 rolpassword:text "
     "rolvaliduntil:timestamptz rolbypassrls:bool rolconfig:text oid:oid",
     virtual_pg_roles},
    /* The readable form of pg_rewrite. */
    {"pg_catalog", "pg_rules", 14041,
     "schemaname:name tablename:name rulename:name definition:text",
     NULL},
    /* No labels. */
    {"pg_catalog", "pg_seclabel", 14042,
     "objoid:oid classoid:oid objsubid:int4 provider:text label:text",
     NULL},
    /* No sequences: \ds asks. */
    {"pg_catalog", "pg_sequence", 14043,
     "seqrelid:oid seqtypid:oid seqstart:int8 seqincrement:int8 seqmax:int8 "
     "seqmin:int8 seqcache:int8 seqcycle:bool",
     NULL},
    /* The readable form of pg_sequence. */
    {"pg_catalog", "pg_sequences", 14044,
     "schemaname:name sequencename:name sequenceowner:name data_type:oid "
     "start_value:int8 min_value:int8 max_value:int8 increment_by:int8 cycle:bool "
     "cache_size:int8 last_value:int8",
     NULL},
    /* The session's variables, as SHOW ALL has them. */
    {"pg_catalog", "pg_settings", 14045,
     "name:text setting:text unit:text category:text short_desc:text extra_desc:text "
     "context:text vartype:text source:text min_val:text max_val:text enumvals:text "
     "boot_val:text reset_val:text sourcefile:text sourceline:int4 "
     "pending_restart:bool",
     virtual_pg_settings},
    /* pg_user with a place for passwords. */
    {"pg_catalog", "pg_shadow", 14046,
     "usename:name usesysid:oid usecreatedb:bool usesuper:bool userepl:bool "
     "usebypassrls:bool passwd:text valuntil:timestamptz useconfig:text",
     virtual_pg_shadow},
    /* Nothing is shared between databases. */
    {"pg_catalog", "pg_shdepend", 14047,
     "dbid:oid classid:oid objid:oid objsubid:int4 refclassid:oid refobjid:oid "
     "deptype:char",
     NULL},
    /* Databases and roles have no comments: \l+ asks. */
    {"pg_catalog", "pg_shdescription", 14048,
     "objoid:oid classoid:oid description:text",
     NULL},
    /* Who is connected, and whether a statement runs. */
    {"pg_catalog", "pg_stat_activity", 14049,
     "datid:oid datname:name pid:int4 leader_pid:int4 usesysid:oid usename:name "
     "application_name:text client_addr:text client_hostname:text client_port:int4 "
     "backend_start:timestamptz xact_start:timestamptz query_start:timestamptz "
     "state_change:timestamptz wait_event_type:text wait_event:text state:text "
     "backend_xid:oid backend_xmin:oid query_id:int8 query:text backend_type:text",
     virtual_pg_stat_activity},
    /* No statistics a table; BI tools ask all the same. */
    {"pg_catalog", "pg_stat_user_tables", 14050,
     "relid:oid schemaname:name relname:name seq_scan:int8 seq_tup_read:int8 "
     "idx_scan:int8 idx_tup_fetch:int8 n_tup_ins:int8 n_tup_upd:int8 n_tup_del:int8 "
     "n_tup_hot_upd:int8 n_live_tup:int8 n_dead_tup:int8 n_mod_since_analyze:int8 "
     "n_ins_since_vacuum:int8 last_vacuum:timestamptz last_autovacuum:timestamptz "
     "last_analyze:timestamptz last_autoanalyze:timestamptz vacuum_count:int8 "
     "autovacuum_count:int8 analyze_count:int8 autoanalyze_count:int8",
     NULL},
    /* No statistics objects: \d asks. */
    {"pg_catalog", "pg_statistic_ext", 14051,
     "oid:oid stxrelid:oid stxname:name stxnamespace:oid stxowner:oid "
     "stxstattarget:int4 stxkeys:text stxkind:text stxexprs:text",
     NULL},
    /* No statistics a column. */
    {"pg_catalog", "pg_stats", 14052,
     "schemaname:name tablename:name attname:name inherited:bool null_frac:float4 "
     "avg_width:int4 n_distinct:float4 most_common_vals:text most_common_freqs:text "
     "histogram_bounds:text correlation:float4 most_common_elems:text "
     "most_common_elem_freqs:text elem_count_histogram:text",
     NULL},
    /* No logical replication in: \dRs asks. */
    {"pg_catalog", "pg_subscription", 14053,
     "oid:oid subdbid:oid subskiplsn:text subname:name subowner:oid subenabled:bool "
     "subbinary:bool substream:bool subtwophasestate:char subdisableonerr:bool "
     "subconninfo:text subslotname:name subsynccommit:text subpublications:text",
     NULL},
    /* Tables and sources. */
    {"pg_catalog", "pg_tables", 14054,
     "schemaname:name tablename:name tableowner:name tablespace:name hasindexes:bool "
     "hasrules:bool hastriggers:bool rowsecurity:bool",
     virtual_pg_tables},
    /* One, so that pg_database.dattablespace finds something. */
    {"pg_catalog", "pg_tablespace", 14055,
     "oid:oid spcname:name spcowner:oid spcacl:text spcoptions:text",
     virtual_pg_tablespace},
    /* Times are UTC. */
    {"pg_catalog", "pg_timezone_names", 14056,
     "name:text abbrev:text utc_offset:interval is_dst:bool",
     NULL},
    /* No triggers: \d asks. */
    {"pg_catalog", "pg_trigger", 14057,
     "oid:oid tableoid:oid tgrelid:oid tgparentid:oid tgname:name tgfoid:oid tgtype:int2 "
     "tgenabled:char tgisinternal:bool tgconstrrelid:oid tgconstrindid:oid "
     "tgconstraint:oid tgdeferrable:bool tginitdeferred:bool tgnargs:int2 tgattr:text "
     "tgargs:text tgqual:text tgoldtable:name tgnewtable:name",
     NULL},
    /* No text search: \dF asks these four. */
    {"pg_catalog", "pg_ts_config", 14058,
     "oid:oid cfgname:name cfgnamespace:oid cfgowner:oid cfgparser:oid",
     NULL},
    /* \dFd. */
    {"pg_catalog", "pg_ts_dict", 14059,
     "oid:oid dictname:name dictnamespace:oid dictowner:oid dicttemplate:oid "
     "dictinitoption:text",
     NULL},
    /* \dFp. */
    {"pg_catalog", "pg_ts_parser", 14060,
     "oid:oid prsname:name prsnamespace:oid prsstart:oid prstoken:oid prsend:oid "
     "prsheadline:oid prslextype:oid",
     NULL},
    /* \dFt. */
    {"pg_catalog", "pg_ts_template", 14061,
     "oid:oid tmplname:name tmplnamespace:oid tmplinit:oid tmpllexize:oid",
     NULL},
    /* Drivers load it at start to learn names and oids of types. */
    {"pg_catalog", "pg_type", 1247,
     "oid:oid typname:name typnamespace:oid typowner:oid typlen:int2 typbyval:bool "
     "typtype:char typcategory:char typispreferred:bool typisdefined:bool "
     "typdelim:char typrelid:oid typsubscript:oid typelem:oid typarray:oid "
     "typinput:oid typoutput:oid typreceive:oid typsend:oid typmodin:oid typmodout:oid "
     "typanalyze:oid typalign:char typstorage:char typnotnull:bool typbasetype:oid "
     "typtypmod:int4 typndims:int4 typcollation:oid typdefaultbin:text typdefault:text "
     "typacl:text",
     virtual_pg_type},
    /* Roles as PostgreSQL 8 listed them; old drivers ask. */
    {"pg_catalog", "pg_user", 14062,
     "usename:name usesysid:oid usecreatedb:bool usesuper:bool userepl:bool "
     "usebypassrls:bool passwd:text valuntil:timestamptz useconfig:text",
     virtual_pg_user},
    /* As pg_foreign_server. */
    {"pg_catalog", "pg_user_mapping", 14063,
     "oid:oid umuser:oid umserver:oid umoptions:text",
     NULL},
    /* Views. */
    {"pg_catalog", "pg_views", 14064,
     "schemaname:name viewname:name viewowner:name definition:text",
     virtual_pg_views},
    /* No role is granted to another. */
    {"information_schema", "applicable_roles", 14065,
     "grantee:text role_name:text is_grantable:text",
     NULL},
    /* One row, as PostgreSQL has it. */
    {"information_schema", "character_sets", 14066,
     "character_set_catalog:text character_set_schema:text character_set_name:text "
     "character_repertoire:text form_of_use:text default_collate_catalog:text "
     "default_collate_schema:text default_collate_name:text",
     virtual_is_character_sets},
    /* No CHECK. */
    {"information_schema", "check_constraints", 14067,
     "constraint_catalog:text constraint_schema:text constraint_name:text "
     "check_clause:text",
     NULL},
    /* What JDBC and BI tools describe tables with. */
    {"information_schema", "columns", 14068,
     "table_catalog:text table_schema:text table_name:text column_name:text "
     "ordinal_position:int4 column_default:text is_nullable:text data_type:text "
     "character_maximum_length:int4 character_octet_length:int4 numeric_precision:int4 "
     "numeric_precision_radix:int4 numeric_scale:int4 datetime_precision:int4 "
     "interval_type:text interval_precision:int4 character_set_catalog:text "
     "character_set_schema:text character_set_name:text collation_catalog:text "
     "collation_schema:text collation_name:text domain_catalog:text domain_schema:text "
     "domain_name:text udt_catalog:text udt_schema:text udt_name:text "
     "scope_catalog:text scope_schema:text scope_name:text maximum_cardinality:int4 "
     "dtd_identifier:text is_self_referencing:text is_identity:text "
     "identity_generation:text identity_start:text identity_increment:text "
     "identity_maximum:text identity_minimum:text identity_cycle:text "
     "is_generated:text generation_expression:text is_updatable:text",
     virtual_is_columns},
    /* No constraints over columns. */
    {"information_schema", "constraint_column_usage", 14069,
     "table_catalog:text table_schema:text table_name:text column_name:text "
     "constraint_catalog:text constraint_schema:text constraint_name:text",
     NULL},
    /* All roles: one may act as any. */
    {"information_schema", "enabled_roles", 14070,
     "role_name:text",
     virtual_is_enabled_roles},
    /* No primary, unique or foreign keys. */
    {"information_schema", "key_column_usage", 14071,
     "constraint_catalog:text constraint_schema:text constraint_name:text "
     "table_catalog:text table_schema:text table_name:text column_name:text "
     "ordinal_position:int4 position_in_unique_constraint:int4",
     NULL},
    /* No foreign keys. */
    {"information_schema", "referential_constraints", 14072,
     "constraint_catalog:text constraint_schema:text constraint_name:text "
     "unique_constraint_catalog:text unique_constraint_schema:text "
     "unique_constraint_name:text match_option:text update_rule:text delete_rule:text",
     NULL},
    /* Users cannot define functions. */
    {"information_schema", "routines", 14073,
     "specific_catalog:text specific_schema:text specific_name:text "
     "routine_catalog:text routine_schema:text routine_name:text routine_type:text "
     "module_catalog:text module_schema:text module_name:text udt_catalog:text "
     "udt_schema:text udt_name:text data_type:text character_maximum_length:int4 "
     "character_octet_length:int4 character_set_catalog:text character_set_schema:text "
     "character_set_name:text collation_catalog:text collation_schema:text "
     "collation_name:text numeric_precision:int4 numeric_precision_radix:int4 "
     "numeric_scale:int4 datetime_precision:int4 interval_type:text "
     "interval_precision:int4 type_udt_catalog:text type_udt_schema:text "
     "type_udt_name:text scope_catalog:text scope_schema:text scope_name:text "
     "maximum_cardinality:int4 dtd_identifier:text routine_body:text "
     "routine_definition:text external_name:text external_language:text "
     "parameter_style:text is_deterministic:text sql_data_access:text "
     "is_null_call:text sql_path:text schema_level_routine:text "
     "max_dynamic_result_sets:int4 is_user_defined_cast:text "
     "is_implicitly_invocable:text security_type:text to_sql_specific_catalog:text "
     "to_sql_specific_schema:text to_sql_specific_name:text as_locator:text "
     "created:timestamptz last_altered:timestamptz new_savepoint_level:text "
     "is_udt_dependent:text result_cast_from_data_type:text "
     "result_cast_as_locator:text result_cast_char_max_length:int4 "
     "result_cast_char_octet_length:int4 result_cast_char_set_catalog:text "
     "result_cast_char_set_schema:text result_cast_char_set_name:text "
     "result_cast_collation_catalog:text result_cast_collation_schema:text "
     "result_cast_collation_name:text result_cast_numeric_precision:int4 "
     "result_cast_numeric_precision_radix:int4 result_cast_numeric_scale:int4 "
     "result_cast_datetime_precision:int4 result_cast_interval_type:text "
     "result_cast_interval_precision:int4 result_cast_type_udt_catalog:text "
     "result_cast_type_udt_schema:text result_cast_type_udt_name:text "
     "result_cast_scope_catalog:text result_cast_scope_schema:text "
     "result_cast_scope_name:text result_cast_maximum_cardinality:int4 "
     "result_cast_dtd_identifier:text",
     NULL},
    /* Schemas of the session's database. */
    {"information_schema", "schemata", 14074,
     "catalog_name:text schema_name:text schema_owner:text "
     "default_character_set_catalog:text default_character_set_schema:text "
     "default_character_set_name:text sql_path:text",
     virtual_is_schemata},
    /* None. */
    {"information_schema", "sequences", 14075,
     "sequence_catalog:text sequence_schema:text sequence_name:text data_type:text "
     "numeric_precision:int4 numeric_precision_radix:int4 numeric_scale:int4 "
     "start_value:text minimum_value:text maximum_value:text increment:text "
     "cycle_option:text",
     NULL},
    /* None but NOT NULL, which is a column's. */
    {"information_schema", "table_constraints", 14076,
     "constraint_catalog:text constraint_schema:text constraint_name:text "
     "table_catalog:text table_schema:text table_name:text constraint_type:text "
     "is_deferrable:text initially_deferred:text enforced:text nulls_distinct:text",
     NULL},
    /* Relations, with our kinds as types: clients show the word as it is. */
    {"information_schema", "tables", 14077,
     "table_catalog:text table_schema:text table_name:text table_type:text "
     "self_referencing_column_name:text reference_generation:text "
     "user_defined_type_catalog:text user_defined_type_schema:text "
     "user_defined_type_name:text is_insertable_into:text is_typed:text "
     "commit_action:text",
     virtual_is_tables},
    /* None. */
    {"information_schema", "triggers", 14078,
     "trigger_catalog:text trigger_schema:text trigger_name:text "
     "event_manipulation:text event_object_catalog:text event_object_schema:text "
     "event_object_table:text action_order:int4 action_condition:text "
     "action_statement:text action_orientation:text action_timing:text "
     "action_reference_old_table:text action_reference_new_table:text "
     "action_reference_old_row:text action_reference_new_row:text created:timestamptz",
     NULL},
    /* Views; materialized ones are not views to the standard. */
    {"information_schema", "views", 14079,
     "table_catalog:text table_schema:text table_name:text view_definition:text "
     "check_option:text is_updatable:text is_insertable_into:text "
     "is_trigger_updatable:text is_trigger_deletable:text "
     "is_trigger_insertable_into:text",
     virtual_is_views},
    /* Databases; the same objects as pg_database, by our ids. */
    {"mz_catalog", "mz_databases", 14080,
     "id:text oid:oid name:text",
     virtual_mz_databases},
    /* database_id NULL: a system schema, which is in every database. */
    {"mz_catalog", "mz_schemas", 14081,
     "id:text oid:oid database_id:text name:text",
     virtual_mz_schemas},
    /* Roles. */
    {"mz_catalog", "mz_roles", 14082,
     "id:text oid:oid name:text inherit:bool",
     virtual_mz_roles},
    /* Clusters, all of them managed: replicas follow the replication factor. */
    {"mz_catalog", "mz_clusters", 14083,
     "id:text name:text managed:bool size:text replication_factor:int4",
     virtual_mz_clusters},
    /* One row a replica; id is the cluster's with the replica's number. */
    {"mz_catalog", "mz_cluster_replicas", 14084,
     "id:text name:text cluster_id:text size:text",
     virtual_mz_cluster_replicas},
    /* What CREATE CLUSTER ... (SIZE) may name, and what it gives. */
    {"mz_catalog", "mz_cluster_replica_sizes", 14085,
     "size:text processes:int4 workers:int4",
     virtual_mz_cluster_replica_sizes},
    /* Everything with a name in a schema, catalog tables included. */
    {"mz_catalog", "mz_objects", 14086,
     "id:text oid:oid schema_id:text name:text type:text cluster_id:text",
     virtual_mz_objects},
    /* mz_objects that can be selected from. */
    {"mz_catalog", "mz_relations", 14087,
     "id:text oid:oid schema_id:text name:text type:text cluster_id:text",
     virtual_mz_relations},
    /* Tables. */
    {"mz_catalog", "mz_tables", 14088,
     "id:text oid:oid schema_id:text name:text create_sql:text",
     virtual_mz_tables},
    /* Sources, with what they read. */
    {"mz_catalog", "mz_sources", 14089,
     "id:text oid:oid schema_id:text name:text type:text format:text path:text "
     "create_sql:text",
     virtual_mz_sources},
    /* Views; definition is the SELECT. */
    {"mz_catalog", "mz_views", 14090,
     "id:text oid:oid schema_id:text name:text definition:text create_sql:text",
     virtual_mz_views},
    /* Materialized views, and where they are kept. */
    {"mz_catalog", "mz_materialized_views", 14091,
     "id:text oid:oid schema_id:text name:text cluster_id:text definition:text "
     "create_sql:text",
     virtual_mz_materialized_views},
    /* on_id: the relation; a materialized view needs no index to be read. */
    {"mz_catalog", "mz_indexes", 14092,
     "id:text oid:oid name:text on_id:text cluster_id:text create_sql:text",
     virtual_mz_indexes},
    /* Positions count from 1. */
    {"mz_catalog", "mz_index_columns", 14093,
     "index_id:text index_position:int8 on_position:int8 nullable:bool",
     virtual_mz_index_columns},
    /* Columns of all relations; type as a user writes it, type_oid as a driver knows it. */
    {"mz_catalog", "mz_columns", 14094,
     "id:text name:text position:int8 nullable:bool type:text default:text "
     "type_oid:oid",
     virtual_mz_columns},
    /* All functions, operators and casts too. */
    {"mz_catalog", "mz_functions", 14095,
     "oid:oid name:text argument_types:text return_type:text",
     virtual_mz_functions},
    /* Whether a source makes progress; error says why not, details what to do. */
    {"mz_internal", "mz_source_statuses", 14096,
     "id:text name:text type:text status:text error:text details:text",
     virtual_mz_source_statuses},
    /* Exact reads exist at times from read_frontier to before write_frontier. NULL: dropped,
     * and complete. */
    {"mz_internal", "mz_frontiers", 14097,
     "object_id:text read_frontier:int8 write_frontier:int8",
     virtual_mz_frontiers},
    /* What the orchestrator runs; cluster_id NULL: storage. */
    {"mz_internal", "mz_processes", 14098,
     "service:text cluster_id:text replica:int4 process:int4 address:text "
     "connected:bool",
     virtual_mz_processes},
    /* One row a process of a replica. */
    {"mz_internal", "mz_cluster_replica_statuses", 14099,
     "replica_id:text process_id:int4 status:text reason:text",
     virtual_mz_cluster_replica_statuses},
    /* object_id is defined over referenced_object_id. */
    {"mz_internal", "mz_object_dependencies", 14100,
     "object_id:text referenced_object_id:text",
     virtual_mz_object_dependencies},
    /* COMMENT ON, by our ids. */
    {"mz_internal", "mz_comments", 14101,
     "id:text object_type:text comment:text",
     virtual_mz_comments},
    /* Who is connected; waits_for says what a running statement waits for, NULL: nothing. */
    {"mz_internal", "mz_sessions", 14102,
     "pid:int4 role:text database:text application_name:text state:text waits_for:text",
     virtual_mz_sessions},
    /* Dataflows that failed as a whole (too much memory, say); not errors of rows. */
    {"mz_internal", "mz_dataflow_errors", 14103,
     "id:text error:text",
     virtual_mz_dataflow_errors},
    /* For pg_get_viewdef and pg_get_indexdef, which the planner turns into lookups here. */
    {"mz_internal", "mz_object_definitions", 14104,
     "oid:oid definition:text",
     virtual_mz_object_definitions},
    /* For SHOW, which the planner turns into queries over this and the next. */
    {"mz_internal", "mz_show_objects", 14105,
     "kind:text database:text schema:text name:text type:text cluster:text "
     "on_name:text key:text replicas:text",
     virtual_mz_show_objects},
    /* For SHOW COLUMNS. */
    {"mz_internal", "mz_show_columns", 14106,
     "database:text schema:text relation:text position:int8 name:text nullable:bool "
     "type:text",
     virtual_mz_show_columns},
    /* What the event loops of the runtimes do; wake_cost is nanoseconds. This and all that follow
     * ask the processes when they are read: survey.c. */
    {"mz_internal", "mz_loop_counters", 14107,
     "replica_id:text process_id:int4 worker_id:int8 spins:int8 yields:int8 sleeps:int8 "
     "wake_cost:int8",
     virtual_mz_loop_counters},
    /* A connection on each worker that uses it, between storage and compute, and within a replica;
     * peer_replica_id NULL: the peer is storage. */
    {"mz_internal", "mz_connection_counters", 14108,
     "replica_id:text process_id:int4 worker_id:int8 transport:text peer_replica_id:text "
     "peer_process_id:int8 messages_out:int8 bytes_out:int8 shared_out:int8 batches_out:int8 "
     "messages_in:int8 bytes_in:int8 batches_in:int8 wakes:int8 woken:int8 stalls:int8 "
     "lost_out:int8 lost_in:int8",
     virtual_mz_connection_counters},
    /* Parts of sources that are subscribed to. */
    {"mz_internal", "mz_source_counters", 14109,
     "replica_id:text process_id:int4 worker_id:int8 source_id:text upper:int8",
     virtual_mz_source_counters},
    /* Storage's side of each subscription; lag is microseconds behind the source's upper. */
    {"mz_internal", "mz_subscription_counters", 14110,
     "replica_id:text process_id:int4 dataflow_id:int8 source_id:text reader_process_id:int8 "
     "reader_worker_id:int8 bytes:int8 chunks:int8 shared_chunks:int8 frontier:int8 lag:int8 "
     "credit_bytes:int8 waits_for_credit:int8 waits_for_carrier:int8",
     virtual_mz_subscription_counters},
    /* Compute's side of the same. */
    {"mz_internal", "mz_reader_counters", 14111,
     "replica_id:text process_id:int4 dataflow_id:int8 source_id:text storage_worker_id:int8 "
     "bytes:int8 chunks:int8 frontier:int8 resumed:int8 resets:int8",
     virtual_mz_reader_counters},
    /* Who told its part of the other tables of the statement. */
    {"mz_internal", "mz_introspection_answers", 14112,
     "service:text replica_id:text process_id:int4 answered:bool reason:text rows_omitted:int8",
     virtual_mz_introspection_answers},
    /* A dataflow on each worker; id is of this creation of it, object_id NULL a query's. size is
     * bytes, batches under way included; memory_limit NULL: none of its own. */
    {"mz_internal", "mz_dataflows", 14113,
     "id:int8 name:text object_id:text replica_id:text process_id:int4 worker_id:int8 size:int8 "
     "memory_limit:int8",
     virtual_mz_dataflows},
    /* node: in the order of the plan; the exports come last. */
    {"mz_internal", "mz_dataflow_operators", 14114,
     "id:int8 name:text dataflow_id:int8 node:int4 description:text replica_id:text "
     "process_id:int4 worker_id:int8",
     virtual_mz_dataflow_operators},
    /* How long each operator ran, and how often. */
    {"mz_internal", "mz_scheduling_elapsed_per_worker", 14115,
     "id:int8 worker_id:int8 elapsed_ns:int8 schedules:int8 replica_id:text process_id:int4",
     virtual_mz_scheduling_elapsed_per_worker},
    /* The same, all workers of a replica together. */
    {"mz_internal", "mz_scheduling_elapsed", 14116,
     "id:int8 elapsed_ns:int8 schedules:int8 replica_id:text",
     virtual_mz_scheduling_elapsed},
    /* What operators keep; size is bytes. */
    {"mz_internal", "mz_arrangement_sizes_per_worker", 14117,
     "id:int8 operator_id:int8 worker_id:int8 records:int8 size:int8 replica_id:text "
     "process_id:int4",
     virtual_mz_arrangement_sizes_per_worker},
    {"mz_internal", "mz_arrangement_sizes", 14118,
     "operator_id:int8 records:int8 size:int8 replica_id:text",
     virtual_mz_arrangement_sizes},
    /* Updates, not net rows; batches are put out. */
    {"mz_internal", "mz_operator_rows_per_worker", 14119,
     "id:int8 worker_id:int8 rows_in:int8 rows_out:int8 batches:int8 replica_id:text "
     "process_id:int4",
     virtual_mz_operator_rows_per_worker},
    /* How far each replica is with each index and materialized view: rows taken in of about
     * rows_estimate that its inputs have, bytes held; 100 percent when it can be read. */
    {"mz_internal", "mz_hydration_statuses", 14120,
     "object_id:text replica_id:text hydrated:bool status:text rows:int8 rows_estimate:int8 "
     "bytes:int8 percent:int8",
     virtual_mz_hydration_statuses},
};

const size_t virtual_specs_len = sizeof(virtual_specs) / sizeof(virtual_specs[0]);
