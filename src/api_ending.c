/*
 * api_ending.c: can this statement end a global transaction?
 *
 * Only its form is checked: it runs later, when other tables may be there than
 * now, with the rights that its owner has then. So nothing is looked up here.
 */
#include "postgres.h"

#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/builtins.h"

#include "api_common.h"

typedef struct Place
{
	const char *argument;
	const char *statement;
} Place;

static void name_place(void *arg);
static void check_kind(const Node *statement, const char *argument);
static bool has_into(const SelectStmt *select);
static bool find_parameter(Node *node, void *argument);

void
dtm_check_statement(const text *statement, const char *argument)
{
	char	   *string = text_to_cstring(statement);
	Place		place = {argument, string};
	ErrorContextCallback callback;
	List	   *statements;

	callback.callback = name_place;
	callback.arg = &place;
	callback.previous = error_context_stack;
	error_context_stack = &callback;
	statements = raw_parser(string, RAW_PARSE_DEFAULT);
	error_context_stack = callback.previous;

	if (list_length(statements) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: must be one SQL statement, not %d", argument,
						list_length(statements)),
				 errhint("Write a function that does it all, and call that.")));
	check_kind(linitial_node(RawStmt, statements)->stmt, argument);
}

/* The caret of an error points into the statement, not at whoever gave it. */
static void
name_place(void *arg)
{
	const Place *place = arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(place->statement);
	}
	errcontext("%s", place->argument);
}

static void
check_kind(const Node *statement, const char *argument)
{
	bool		makes_table = false;
	Node	   *searched = unconstify(Node *, statement);

	switch (nodeTag(statement))
	{
		case T_SelectStmt:
			makes_table = has_into((const SelectStmt *) statement);
			break;
		case T_CallStmt:
			searched = (Node *) ((const CallStmt *) statement)->funccall;
			break;
		case T_InsertStmt:
		case T_UpdateStmt:
		case T_DeleteStmt:
		case T_MergeStmt:
			break;
		default:
			searched = NULL;
			break;
	}
	if (searched == NULL || makes_table)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: must be SELECT, INSERT, UPDATE, DELETE, MERGE or CALL",
						argument),
				 errhint("Anything else can be done by a function or a procedure.")));
	if (find_parameter(searched, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s: parameters like $1 have no value when it is run",
						argument),
				 errhint("Write the value itself, as format('%%L', ...) quotes it, or take the gid from dtm.current_branch().")));
}

/* Of a UNION, as of INTERSECT and EXCEPT, the first member may have it. */
static bool
has_into(const SelectStmt *select)
{
	while (select->larg != NULL)
		select = select->larg;
	return select->intoClause != NULL;
}

static bool
find_parameter(Node *node, void *unused)
{
	if (node == NULL)
		return false;
	if (IsA(node, ParamRef))
		return true;
	return raw_expression_tree_walker(node, find_parameter, unused);
}
