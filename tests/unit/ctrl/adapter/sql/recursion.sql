with recursive t(n) as (values (1) union all select n + 1 from t where n < 10) select sum(n), count(*) from t
with recursive t as (select 1 as n union all select n + 1 from t where n < 5) select * from t order by n
with recursive t(n) as (select 1 union select (n % 5) + 1 from t) select n from t order by n
with recursive r(a, b) as (select a, b from edge union select r.a, edge.b from r join edge on r.b = edge.a) select * from r order by a, b
with recursive r(a, b) as (select a, b from edge union select edge.a, r.b from edge, r where edge.b = r.a) select a, count(*) from r group by a order by a
with recursive r(a, b, d) as (select a, b, 1 from edge union all select r.a, edge.b, d + 1 from r join edge on r.b = edge.a where d < 4) select a, b, d, count(*) from r group by 1, 2, 3 order by 1, 2, 3
with recursive r as (select a from edge where a = 1 union select e.b from edge e, r where e.a = r.a) select a from r where a > 2 order by a
with recursive r as (select a from edge where a = 1 union select e.b from edge e join r on e.a = r.a where e.b is not null) select (select count(*) from r), max(a) from r
with recursive r(x) as (select a from edge where a = 1 union select e.b from r left join edge e on e.a = r.x) select x from r order by x
with recursive fib(i, a, b) as (select 1, 0::numeric, 1::numeric union all select i + 1, b, a + b from fib where i < 50) select i, a from fib order by i
with recursive t(n, s) as (select 1, 'x' union all select n + 1, s || 'y' from t where n < 4) select * from t order by n
with recursive t(n, s) as (select 1, 'x'::text union all select n + 1, s || 'y' from t where n < 4) select * from t order by n
with recursive t(n) as (select 1 union all select n + 1.5 from t where n < 4) select * from t
with recursive t(n) as (select 1::numeric union all select n + 1.5 from t where n < 4) select * from t order by n
with recursive t(n) as (select '1' union all select n from t where false) select * from t
with recursive t(v) as (select 'ab'::varchar(5) union all select v || 'c' from t where length(v) < 4) select * from t
with recursive t(v) as (select 1.5::numeric(5,2) union all select v + 1 from t where v < 4) select * from t
with recursive x as (select a from edge), y as (select count(*) as n from x) select n from y
with recursive y as (select count(*) as n from x), x as (select a from edge) select n from y
with recursive y as (select a from x where a < 3 union select y.a + 1 from y where y.a < 6), x as (select a from edge) select a from y order by a
with recursive t(n) as (select 1 union all select n + 1 from t where n < 3), u(m) as (select n from t union all select m + 10 from u where m < 30) select m from u order by m
with recursive t(n) as (select 1 union all select n + 1 from t where n < 3) select a.n, b.n from t a join t b on a.n = b.n + 1 order by 1
with recursive t(n) as (select 1 union all select n + 1 from t where n < 5) select * from t where n in (select n + 1 from t) order by n
select a from edge where a in (with recursive t(n) as (select 1 union all select n + 1 from t where n < 3) select n from t) order by a
with recursive t(n) as (select 1 union all (select n + 1 from t where n < 5 union all select n * 10 from t where n < 3)) select n from t order by n
with recursive t as (select 1 union all select 1 from t t1, t t2) select * from t
with recursive t(n) as (select n from t union all select 1) select * from t
with recursive t(n) as (select 1 union all select n from t where n in (select n from t)) select * from t
with recursive t(n) as (select 1 union all select (select n from t) from edge) select * from t
with recursive t(n) as (select 1 union all select t.n from edge left join t on t.n = edge.a) select * from t
with recursive t(n) as (select 1 union all select t.n from t full join edge on t.n = edge.a) select * from t
with recursive t(n) as (select 1 union all select t.n from t right join edge on t.n = edge.a) select * from t
with recursive t(n) as (select 1 union all (select 2 except select n from t)) select * from t
with recursive t(n) as (select 1 union all (select n from t intersect all select 2)) select * from t
with recursive t(n) as (select 1 intersect select n + 1 from t) select * from t
with recursive t(n) as (select n from t) select * from t
with recursive t(n) as (select 1 union all select n + 1 from t order by 1) select * from t
with recursive t(n) as (select 1 union all select n + 1 from t limit 10) select * from t
with recursive t(n) as (select 1 union all select n + 1 from t offset 1) select * from t
with recursive t(n) as (select 1 union all select count(*) from t) select * from t
with recursive t(n) as (select 1 union all select max(n) + 1 from t where n < 5) select * from t
with recursive t(n) as (select 1 union all select n, n from t) select * from t
with recursive t(n, m) as (select 1 union all select n from t) select * from t
with recursive t(n) as (select 1, 2 union all select n, n from t where n > 5) select * from t
with recursive x(n) as (select 1 union all select n + 1 from y where n < 5), y(n) as (select 1 union all select n + 1 from x where n < 5) select * from x
with recursive t(n) as (select 1), t(n) as (select 2) select * from t
with recursive t(n) as (select 1 union select n + 1 from t where n < 4 group by n) select n from t order by n
with recursive t(n) as (select 1 union select distinct n + 1 from t where n < 4) select n from t order by n
with recursive t(n) as (select 1 union (select n + 1 from t where n < 9 except select 4)) select n from t order by n
with recursive t(n) as (select 1 union (select n + 1 from t intersect select a from edge)) select n from t order by n
with recursive t(n) as (select 1 union all select n + g from t, generate_series(1, 2) g where n < 4) select n from t order by n
with recursive t(n) as (select 1 union all select x.m from t, lateral (select t.n + 1 as m where t.n < 4) x) select n from t order by n
with recursive t(n) as (select 1 union all select n + 1 from t where n < 4 and exists (select 1 from edge where a = n)) select n from t order by n
with recursive t(n) as (select 1 union all select n + 1 from (select n from t where n < 4) q) select n from t order by n
with recursive t(n) as (with t as (select 5 as n) select n from t union all select n + 1 from t where n < 7) select n from t order by n
with recursive t(n) as (select null::int union select a from edge, t where t.n is null) select n from t order by n
with recursive edge(a) as (select 1 union all select a + 1 from edge where a < 3) select a from edge order by a
with recursive t(n) as (select 1 union all select n + 1 from t where n < 3) select * from t union all select 100 order by 1
with recursive r(a, p) as (select 1, array[1]::text union all select e.b, p || '>' || e.b::text from r, edge e where e.a = r.a and e.b > e.a) select a, p from r order by a, p
with recursive r(n) as (select 1 union (with x as (select n from r) select a.n + b.n from x a, x b where a.n + b.n < 20)) select n from r order by n
with recursive t as (select 1 union all select from t) select * from t
with recursive r(n) as (select 1 union (with r as (select n + 1 as n from r where n < 5) select n from r)) select n from r order by n
with recursive r(n) as (select 1 union (with x as (select n + 1 as n from r where n < 5), r as (select n from x) select n from r)) select n from r order by n
with recursive r(n) as (select 1 union (with recursive r as (select 7 as n) select n from r)) select n from r order by n
with recursive r(n) as (select 1 union (with x as (select n from r), r as (select n from r) select x.n from x, r)) select n from r order by n
