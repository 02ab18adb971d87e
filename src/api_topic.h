/*
 * api_topic.h: topics: one address that stands for many.
 */
#ifndef DTM_API_TOPIC_H
#define DTM_API_TOPIC_H

#include "postgres.h"

#include "api_step.h"

/* Does it begin with topic:// ? */
extern bool dtm_is_topic(const text *address);

/*
 * Put the subscribers in the place of each topic. first: the number of the
 * first step. The result is a new array; several subscribers of one topic are
 * branches 01-01, 01-02, ...; a topic without any is an error.
 */
extern int	dtm_expand_topics(Oid user, const DtmStep *steps, int nsteps,
							  int first, DtmStep **expanded);

#endif
